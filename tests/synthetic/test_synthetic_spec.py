"""The specification of a synthetic domain: its limits, its difficulty and its random numbers."""

import dataclasses
import pickle

import pytest

from nplp_synthetic import DOMAINS, DomainSpec, DomainStyle
from nplp_synthetic.spec import generator

WRONG = {
    "name": ("mall", "name must be one of plaza, station, campus, harbour, got 'mall'"),
    "train_identities": (0, r"train_identities must be an integer in \[1, 99999\], got 0"),
    "test_identities": (2.0, r"test_identities must be an integer in \[1, 99999\], got 2.0"),
    "images_per_identity": (3, r"images_per_identity must be an integer in \[4, 1000\], got 3"),
    "cameras": (1, r"cameras must be an integer in \[2, 99\], got 1"),
    "image_size": ((128,), r"image_size must be a pair \(height, width\), got \(128,\)"),
    "distractors": (-1, r"distractors must be an integer in \[0, 1000000\], got -1"),
    "junk": (True, r"junk must be an integer in \[0, 1000000\], got True"),
    "seed": (-1, r"seed must be an integer in \[0, 4294967295\], got -1"),
    "style": (1.0, "style must be a DomainStyle or None, got 1.0"),
}


@pytest.mark.parametrize("field", WRONG)
def test_a_wrong_field_is_named_with_its_range_and_value(field):
    value, message = WRONG[field]
    with pytest.raises(ValueError, match=message):
        DomainSpec(**{field: value})


def test_a_wrong_side_of_the_image_is_named():
    with pytest.raises(ValueError, match=r"image_size width must be an integer in \[32, 1024\], got 16"):
        DomainSpec(image_size=(32, 16))


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(DomainStyle)])
@pytest.mark.parametrize("value", [-0.1, 4.1, "1", None, True, float("nan")])
def test_a_wrong_strength_or_share_is_named(field, value):
    with pytest.raises(ValueError, match=rf"{field} must be a number in \[0, [14]\], got"):
        DomainStyle(**{field: value})


def test_every_domain_can_be_specified_with_defaults_alone():
    for name, style in DOMAINS.items():
        spec = DomainSpec(name=name)
        assert spec.difficulty == spec.style == style
        assert spec.identities == spec.train_identities + spec.test_identities


def test_a_specification_is_a_value():
    spec = DomainSpec(image_size=[64, 32], style=DomainStyle(clutter=1))
    assert spec == pickle.loads(pickle.dumps(spec))
    assert hash(spec) == hash(dataclasses.replace(spec))
    assert spec != dataclasses.replace(spec, style=DomainStyle(clutter=2))
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.seed = 1


def test_difficulty_scales_every_setting():
    style = DomainStyle()
    halved = style.scaled(0.5)
    for field in dataclasses.fields(style):
        assert getattr(halved, field.name) == pytest.approx(0.5 * getattr(style, field.name))
    assert style.scaled(1.0) == style


@pytest.mark.parametrize("difficulty", [-1.0, 100.0, float("nan")])
def test_a_wrong_difficulty_is_named(difficulty):
    with pytest.raises(
        ValueError, match=f"difficulty {difficulty:g} takes a setting out of its range: .* must be"
    ):
        DomainStyle().scaled(difficulty)


def test_random_numbers_depend_on_seed_domain_purpose_and_key_alone():
    def draw(purpose="person", *key, **fields):
        return generator(DomainSpec(**fields), purpose, *key).random(4).tolist()

    assert draw("person", 1) == draw("person", 1, train_identities=7, image_size=(64, 32), cameras=3)
    draws = [
        draw("person", 1),
        draw("person", 2),
        draw("person", -1),
        draw("person", 0),
        draw("camera", 1),
        draw("person", 1, seed=1),
        draw("person", 1, name="station"),
    ]
    assert len({tuple(values) for values in draws}) == len(draws)
