"""The people of the synthetic domains: looks, look-alikes, bodies and views."""

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nplp_synthetic import DomainSpec, DomainStyle
from nplp_synthetic.body import View, skeleton
from nplp_synthetic.person import GROUP_SIZE, person
from nplp_synthetic.wardrobe import COLOURS, WARDROBES

OUTFIT = ("upper", "pattern", "lower", "long_sleeves", "open_front", "contrast_sleeves", "pattern_scale")
VISIBLE = (
    "upper",
    "upper_colour",
    "second_colour",
    "inner_colour",
    "pattern",
    "lower",
    "lower_colour",
    "shoe_colour",
    "bag",
    "bag_colour",
    "hair",
    "hair_colour",
    "hat",
    "skin",
)


def look_alikes(share, **fields):
    spec = DomainSpec(style=DomainStyle(confusable_share=share), **fields)
    return [[person(spec, GROUP_SIZE * group + i + 1) for i in range(GROUP_SIZE)] for group in range(25)]


@pytest.mark.parametrize("domain", WARDROBES)
def test_the_wardrobe_names_known_colours_and_positive_weights(domain):
    wardrobe = WARDROBES[domain]
    for field in dataclasses.fields(wardrobe):
        choices = getattr(wardrobe, field.name)
        assert all(weight > 0 for _, weight in choices)
        if field.name.endswith("colours"):
            assert {name for name, _ in choices} <= set(COLOURS)


@pytest.mark.parametrize("domain", WARDROBES)
def test_people_wear_their_own_domains_garments(domain):
    spec = DomainSpec(name=domain)
    worn = {person(spec, identity).upper for identity in range(1, 400)}
    assert worn == {name for name, _ in WARDROBES[domain].uppers}


def test_a_look_is_lasting_and_depends_on_no_size():
    spec = DomainSpec(seed=5)
    other_sizes = DomainSpec(seed=5, train_identities=3, cameras=2, image_size=(64, 32))
    person.cache_clear()
    assert person(spec, 7) == person(other_sizes, 7)
    assert person(spec, 7) != person(DomainSpec(seed=6), 7)
    assert person(spec, 7) != person(DomainSpec(seed=5, name="station"), 7)


def test_look_alikes_share_an_outfit_and_differ_in_a_few_attributes():
    for group in look_alikes(1.0):
        for field in OUTFIT:
            assert len({getattr(member, field) for member in group}) == 1
        for i, first in enumerate(group):
            for second in group[:i]:
                differing = [f for f in VISIBLE if getattr(first, f) != getattr(second, f)]
                assert 0 < len(differing) <= 12


def test_without_look_alikes_outfits_are_independent():
    groups = look_alikes(0.0)
    alike = sum(len({member.upper_colour for member in group}) == 1 for group in groups)
    assert alike == 0


def test_the_share_of_look_alikes_is_what_was_asked_for():
    spec = DomainSpec(style=DomainStyle(confusable_share=0.3))
    groups = 300
    alike = sum(
        person(spec, GROUP_SIZE * g + 1).pattern_scale == person(spec, GROUP_SIZE * g + 2).pattern_scale
        for g in range(groups)
    )
    assert alike / groups == pytest.approx(0.3, abs=0.09)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.floats(0, math.tau), st.floats(0, 1.5))
def test_a_walking_body_stands_on_the_ground_with_limbs_of_one_length(identity, phase, effort):
    who = person(DomainSpec(), identity)
    body, standing = skeleton(who, phase, effort), skeleton(who, 0.0, 0.0)
    assert min(body.left.ankle[1], body.right.ankle[1]) == pytest.approx(0.036)
    assert 0 < body.hip < body.waist < body.shoulder < body.chin < body.crown
    for now, then in ((body.left, standing.left), (body.right, standing.right)):
        for first, second in (("hip", "knee"), ("knee", "ankle"), ("elbow", "hand")):
            length = math.dist(getattr(now, first), getattr(now, second))
            assert length == pytest.approx(math.dist(getattr(then, first), getattr(then, second)), rel=0.02)


def test_the_legs_swing_against_each_other_and_against_the_arms():
    body = skeleton(person(DomainSpec(), 1), math.pi / 2, 1.0)
    assert body.left.ankle[2] > 0.03 > -0.03 > body.right.ankle[2]
    assert body.left.hand[2] < body.right.hand[2]


def test_a_view_mirrors_profiles_and_tells_front_from_back():
    def view(yaw):
        return View(yaw, 0.0, 0.0, 100.0, (50.0, 90.0))

    ahead = (0.0, 1.0, 0.2)
    assert view(0.0).project(ahead) == pytest.approx((50.0, -10.0))
    assert view(math.pi / 2).project(ahead) == pytest.approx((70.0, -10.0))
    assert view(-math.pi / 2).project(ahead) == pytest.approx((30.0, -10.0))
    assert view(0.0).facing == pytest.approx(1.0)
    assert view(math.pi).facing == pytest.approx(-1.0)
    assert view(0.0).depth(ahead) == pytest.approx(0.2)
    assert view(0.0).breadth(0.3, 0.1) == pytest.approx(0.3)
    assert view(math.pi / 2).breadth(0.3, 0.1) == pytest.approx(0.1)


def test_a_camera_above_sees_near_points_lower_and_the_head_larger():
    high = View(0.0, 0.4, 0.2, 100.0, (50.0, 90.0))
    assert high.project((0.0, 0.0, 0.2))[1] > high.project((0.0, 0.0, 0.0))[1]
    assert high.zoom(1.0) > 1 > high.zoom(0.0)
