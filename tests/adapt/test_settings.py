"""The settings of an adaptation follow from the images and the machine."""

import argparse
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from nplp.adapt.facts import ImageFacts, MachineFacts
from nplp.adapt.settings import FEWEST_IMAGES, choose_settings
from nplp.config import default_config
from nplp.config.dotted import flat, value_at
from nplp.config.validation import validate_config
from nplp.engine.setup import load_config
from nplp.errors import UserError

ROOT = Path(__file__).parents[2]
SIX = ImageFacts(40_000, {f"c{number}": 6_000 + number for number in range(6)}, 256, 128, evaluated=False)
PROCESSOR, GPU = MachineFacts("", 2), MachineFacts("a card", 16)


def keys_of(images=SIX, machine=PROCESSOR, **options):
    choices = choose_settings(images, machine, **options)
    keys = [key for choice in choices for key in choice.keys]
    assert len(keys) == len(set(keys)), "a key is chosen twice"
    return {key: value for choice in choices for key, value in choice.keys.items()}


def configured(keys):
    cfg = default_config()
    for key, value in keys.items():
        assert value_at(cfg, key) is not None, key
        cfg.merge_from_list([key, value])
    return cfg


@pytest.mark.parametrize("machine", [PROCESSOR, GPU])
@pytest.mark.parametrize("count", [FEWEST_IMAGES, 150, 600, 40_000])
@pytest.mark.parametrize("cameras", [1, 2, 6, 30])
def test_they_make_a_valid_configuration(machine, count, cameras):
    facts = ImageFacts(count, {f"c{number}": count // cameras for number in range(cameras)}, 128, 48, True)
    validate_config(configured(keys_of(facts, machine)))


def test_with_cameras_they_are_the_recommended_ones():
    """What Base-NPLP-plus.yml adds to the paper's settings is all there."""
    overlay = ROOT / "configs/NPLP/ablations/plus.yml"
    recommended = load_config(
        argparse.Namespace(
            config_file=str(ROOT / "configs/NPLP/Base-NPLP.yml"), overlay=[str(overlay)], opts=[]
        )
    )
    chosen = flat(configured(keys_of()))

    def leaves(node, path=()):
        for key, value in node.items():
            if isinstance(value, dict):
                yield from leaves(value, (*path, key))
            else:
                yield ".".join((*path, key))

    for key in leaves(yaml.safe_load(overlay.read_text())):
        assert chosen[key] == flat(recommended)[key], key


@pytest.mark.parametrize(
    ("cameras", "batch_norms", "expected"),
    [
        ({"a": 300, "b": 300}, True, True),
        ({"a": 300, "b": 63}, True, False),
        ({f"c{number}": 300 for number in range(9)}, True, False),
        ({"a": 300, "b": 300}, False, False),
    ],
)
def test_batch_norms_by_camera_need_enough_images_of_each(cameras, batch_norms, expected):
    keys = keys_of(replace(SIX, cameras=cameras), batch_norms=batch_norms)
    assert keys["MODEL.NORM_CAMERAS"] is expected
    assert keys["TEST.CAMERAS"] == "mean"


def test_one_camera_is_not_treated():
    keys = keys_of(replace(SIX, cameras={"only": 40_000}))
    assert not keys.keys() & {"TEST.CAMERAS", "NPLP.CAMERA_CENTERING", "MODEL.NORM_CAMERAS"}
    assert "CameraProxyLoss" not in keys["MODEL.LOSSES.NAME"]


def test_low_crops_take_a_smaller_input():
    assert keys_of(replace(SIX, height=95, width=40))["INPUT.SIZE_TRAIN"] == [192, 96]
    assert keys_of(replace(SIX, height=96, width=40))["INPUT.SIZE_TRAIN"] == [256, 128]
    assert keys_of()["INPUT.SIZE_TRAIN"] == [256, 128]


def test_a_processor_trains_fewer_steps():
    assert keys_of()["NPLP.STEPS_PER_EPOCH"] == 100
    assert keys_of(machine=GPU)["NPLP.STEPS_PER_EPOCH"] == 500
    assert keys_of(replace(SIX, count=640))["NPLP.STEPS_PER_EPOCH"] == 10


def test_few_images_have_fewer_neighbours():
    keys = keys_of(replace(SIX, count=100))
    assert (keys["NPLP.K1"], keys["NPLP.K2"]) == (10, 3)


def test_neighbours_are_chosen_where_nobody_says_how_many_people_there_are():
    assert keys_of()["NPLP.K1"] == 0
    assert "NPLP.K1" not in keys_of(additions=False), "a method that is named keeps its own"


@pytest.mark.parametrize(("each", "expected"), [(20, None), (21, (21, 6)), (40, (40, 12)), (500, (60, 18))])
def test_people_of_many_images_have_more_neighbours(each, expected):
    keys = keys_of(replace(SIX, count=10 * each), people=10)
    assert (keys.get("NPLP.K1"), keys.get("NPLP.K2")) == (expected or (None, None))


def test_too_few_images_are_refused():
    with pytest.raises(UserError, match="there are 23 images"):
        choose_settings(replace(SIX, count=FEWEST_IMAGES - 1), PROCESSOR)


def test_every_choice_has_a_reason():
    for choice in choose_settings(SIX, GPU):
        assert choice.reason
        assert choice.keys
