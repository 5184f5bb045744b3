"""A bundle's configuration, which may come from a stranger, is looked at key by key before it is taken."""

import argparse
from pathlib import Path

import pytest
import yaml
from fastreid.config import get_cfg

from nplp.config import add_nplp_config, default_config
from nplp.config.bundles import RefusedKeyError, parse_configuration
from nplp.engine.setup import load_config
from nplp.errors import UserError
from nplp.export.card import card_facts
from nplp.export.inference import inference_config
from nplp.weights.zoo import write_sums

OLD = Path(__file__).with_name("config_of_0_1.yaml")
"""What version 0.1 wrote into a bundle."""


@pytest.fixture
def folder(tmp_path):
    """A bundle that holds what is needed before its model is built."""
    (tmp_path / "stranger").mkdir()
    (tmp_path / "stranger" / "config.yaml").write_text(OLD.read_text())
    (tmp_path / "stranger" / "model.pth").write_bytes(b"weights")
    return write_sums(tmp_path / "stranger").folder


def load(path):
    return load_config(argparse.Namespace(config_file=str(path), opts=["MODEL.DEVICE", "cpu"]))


def changed(key, value):
    """Return the old configuration with a key of another value."""
    content = yaml.safe_load(OLD.read_text())
    *place, last = key.split(".")
    section = content
    for name in place:
        section = section.setdefault(name, {})
    section[last] = value
    return yaml.safe_dump(content)


def test_what_earlier_versions_wrote_is_taken_as_the_toolbox_takes_it():
    expected = get_cfg()
    add_nplp_config(expected)
    expected.merge_from_file(str(OLD))
    assert parse_configuration(OLD.read_text()) == expected


def test_own_images_are_named_without_their_place(folder):
    (folder / "config.yaml").write_text(changed("DATASETS.TESTS", ["OwnImages"]))
    write_sums(folder)
    cfg = load(folder / "config.yaml")
    assert (cfg.DATASETS.TESTS, cfg.DATASETS.OWN.SOURCE) == (("OwnImages",), "")
    cfg.defrost()
    cfg.DATASETS.OWN.SOURCE = "/home/someone/crops"
    assert "someone" not in inference_config(cfg, "own").dump()
    facts = card_facts(cfg, default_config(), "own", {}, {})
    assert "someone" not in str(facts)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("DATASETS.OWN.SOURCE", "/home/someone"),
        ("DATASETS.SYNTHETIC.ROOT", "/home/someone"),
        ("DATASETS.SYNTHETIC.TRAIN_IDENTITIES", 99_999),
        ("DATASETS.SYNTHETIC.TEST_IDENTITIES", 2.0),
        ("DATASETS.SYNTHETIC.IMAGES_PER_IDENTITY", 1_000),
        ("DATASETS.SYNTHETIC.IMAGE_SIZE", [1024, 1024]),
        ("DATASETS.SYNTHETIC.STYLE.CLUTTER", float("inf")),
        ("DATASETS.SYNTHETIC.STYLE.OTHER", 1.0),
        ("DATASETS.TESTS", ["../../etc"]),
        ("DATASETS.TESTS", ["a"] * 17),
        ("DATASETS.TESTS", "SynthPlaza"),
        ("DATASETS.COMBINEALL", True),
        ("DATALOADER.NUM_WORKERS", 100_000),
        ("INPUT.SIZE_TEST", [256, 128, 3]),
        ("INPUT.SIZE_TEST", [10**9, 128]),
        ("INPUT.CROP.ENABLED", True),
        ("MODEL.DEVICE", "cuda"),
        ("MODEL.META_ARCHITECTURE", "Nothing"),
        ("MODEL.BACKBONE.NAME", "os.system"),
        ("MODEL.BACKBONE.PRETRAIN", True),
        ("MODEL.BACKBONE.PRETRAIN_PATH", "/etc/passwd"),
        ("MODEL.BACKBONE.FEAT_DIM", 10**9),
        ("MODEL.BACKBONE.FEAT_DIM", True),
        ("MODEL.HEADS.EMBEDDING_DIM", "1024"),
        ("MODEL.HEADS.NUM_CLASSES", 10**9),
        ("MODEL.LOSSES.NAME", ["CrossEntropyLoss"]),
        ("MODEL.PIXEL_MEAN", [float("nan"), 1.0, 1.0]),
        ("MODEL.PIXEL_STD", [0.0, 1.0, 1.0]),
        ("MODEL.WEIGHTS", "/home/someone/model.pth"),
        ("MODEL.WEIGHTS", "zoo://../other"),
        ("TEST.IMS_PER_BATCH", 4096),
        ("TEST.METRIC", "'euclidean'"),
        ("OUTPUT_DIR", "/home/someone"),
        ("NPLP.SOURCE.WEIGHTS", "/home/someone/model.pth"),
        ("SOLVER.MAX_EPOCH", 10**9),
        ("_BASE_", "/etc/passwd"),
        ("MODEL", None),
    ],
)
def test_a_key_that_a_bundle_may_not_set_is_named(folder, key, value):
    (folder / "config.yaml").write_text(changed(key, value))
    write_sums(folder)
    with pytest.raises(UserError) as caught:
        load(folder / "config.yaml")
    message = str(caught.value)
    named = message.partition(" sets ")[2].partition(" to ")[0].strip("'")
    assert named
    assert key.startswith(named)
    assert "stranger/config.yaml" in message
    assert "do not use the bundle" in message
    assert "\n" not in message
    with pytest.raises(RefusedKeyError):
        parse_configuration((folder / "config.yaml").read_text())


def test_a_value_is_taken_as_it_is_not_read_as_python():
    """The toolbox's own merging would make the name without quotes of it."""
    with pytest.raises(RefusedKeyError, match=r"sets TEST\.METRIC to"):
        parse_configuration(changed("TEST.METRIC", "'euclidean'"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "- 1",
        "? [1]\n: 2",
        "[" * 5000,
        f"MODEL: {{HEADS: {{PAP: {'9' * 5000}}}}}",
        "MODEL: {HEADS: {PAP: 2001-99-99}}",
        "a: &a {k: v}\nb: {<<: [*a, *a]}",
        "DATASETS: {TESTS: &a [*a]}",
        "DATASETS:\n  SYNTHETIC:\n    STYLE: {CLUTTER: &a [1, 1]}\n  TESTS:\n"
        + "".join(
            f"  - &b{i} [{f'*b{i - 1}' if i else '*a'}, {f'*b{i - 1}' if i else '*a'}]\n" for i in range(40)
        ),
    ],
    ids=["empty", "torn", "list", "odd key", "deep", "long", "no date", "merged", "in itself", "a million"],
)
def test_what_is_no_plain_configuration_is_one_line(folder, text):
    (folder / "config.yaml").write_text(text)
    write_sums(folder)
    with pytest.raises(UserError, match="do not use the bundle") as caught:
        load(folder / "config.yaml")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("place", ["a bundle", "any folder"])
def test_no_configuration_runs_code(folder, tmp_path, place):
    text = f"MODEL: !!python/object/apply:os.system ['touch {tmp_path}/ran']\n"
    path = folder / "config.yaml" if place == "a bundle" else tmp_path / "own.yaml"
    path.write_text(text)
    write_sums(folder)
    with pytest.raises(UserError, match="YAML"):
        load(path)
    assert not (tmp_path / "ran").exists()


def test_the_weights_are_those_beside_it_whatever_the_folder_is_called(folder):
    cfg = load(folder / "config.yaml")
    assert str(folder / "model.pth") == cfg.MODEL.WEIGHTS
    assert cfg.OUTPUT_DIR == get_cfg().OUTPUT_DIR


def test_other_files_of_a_bundle_and_links_to_it_are_looked_at_too(folder, tmp_path):
    (folder / "other.yaml").write_text("OUTPUT_DIR: /home/someone\n")
    with pytest.raises(UserError, match=r"has no other\.yaml"):
        load(folder / "other.yaml")
    (folder / "config.yaml").write_text("OUTPUT_DIR: /home/someone\n")
    write_sums(folder)
    (tmp_path / "link.yaml").symlink_to(folder / "config.yaml")
    with pytest.raises(UserError, match="sets 'OUTPUT_DIR'"):
        load(tmp_path / "link.yaml")


def test_an_altered_configuration_is_refused(folder):
    (folder / "config.yaml").write_text(changed("MODEL.HEADS.PAP", 3))
    with pytest.raises(UserError, match="was altered"):
        load(folder / "config.yaml")
