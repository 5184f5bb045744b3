"""The people of a domain: what each identity looks like in every image of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from nplp_synthetic.spec import DomainSpec, generator
from nplp_synthetic.wardrobe import COLOURS, HAIR, SKIN, WARDROBES, Colour, Wardrobe, Weighted

__all__ = ["GROUP_SIZE", "Person", "person", "stranger"]

# People whose identities share a quotient by this number may share an outfit.
GROUP_SIZE = 4

_LONG_SLEEVED = frozenset({"shirt", "jacket", "hoodie", "coat", "parka"})
_OPEN_FRONTED = frozenset({"jacket", "coat", "parka"})


@dataclass(frozen=True)
class Person:
    """The lasting look of one identity. Proportions are factors around 1, colours 0-255 RGB.

    Attributes:
        build: Breadth of the body.
        shoulders: Breadth of the shoulders relative to the hips.
        legs: Length of the legs.
        head: Size of the head.
        stride: Length of the step.
        skin: Colour of the skin.
        hair: ``short``, ``long``, ``bob``, ``ponytail``, ``bun``, ``curly`` or ``bald``.
        hair_colour: Colour of the hair.
        hat: ``none``, ``cap``, ``beanie``, ``sunhat`` or ``hood``.
        hat_colour: Its colour.
        upper: Garment of the upper body.
        long_sleeves: Whether its sleeves reach the hands.
        open_front: Whether it is worn open, over a garment of ``inner_colour``.
        pattern: Pattern of the upper garment.
        pattern_scale: Width of a stripe or check as a share of the stature.
        upper_colour: Its first colour.
        second_colour: Its second colour, of stripes, prints, sleeves and trims.
        contrast_sleeves: Whether the sleeves have the second colour.
        inner_colour: Colour of what is worn under an open garment.
        lower: Garment of the legs.
        lower_colour: Its colour.
        lower_trim: ``none``, ``stripe`` along the seam or ``fade`` on the thighs.
        shoe: ``sneaker``, ``boot`` or ``plain``.
        shoe_colour: Its colour.
        bag: ``none``, ``backpack``, ``handbag``, ``messenger`` or ``trolley``.
        bag_colour: Its colour.
        left_handed: Side on which the bag is carried.
    """

    build: float
    shoulders: float
    legs: float
    head: float
    stride: float
    skin: Colour
    hair: str
    hair_colour: Colour
    hat: str
    hat_colour: Colour
    upper: str
    long_sleeves: bool
    open_front: bool
    pattern: str
    pattern_scale: float
    upper_colour: Colour
    second_colour: Colour
    contrast_sleeves: bool
    inner_colour: Colour
    lower: str
    lower_colour: Colour
    lower_trim: str
    shoe: str
    shoe_colour: Colour
    bag: str
    bag_colour: Colour
    left_handed: bool


@lru_cache(maxsize=512)
def person(spec: DomainSpec, identity: int) -> Person:
    """Return the look of an identity; it does not depend on the domain's sizes.

    Args:
        spec: The domain.
        identity: From 1.

    Returns:
        Its look: its own, or that of its group with a few attributes changed.
    """
    own = generator(spec, "person", identity)
    group = (identity - 1) // GROUP_SIZE
    shared = generator(spec, "group", group)
    wardrobe = WARDROBES[spec.name]
    if shared.random() < spec.difficulty.confusable_share:
        return _vary(_draw(shared, wardrobe), own, wardrobe)
    return _draw(own, wardrobe)


def stranger(spec: DomainSpec, rng: np.random.Generator) -> Person:
    """Draw somebody who is no identity of the domain, for bystanders and distractors."""
    return _draw(rng, WARDROBES[spec.name])


def _pick(rng: np.random.Generator, choices: Weighted) -> str:
    """Draw one of the weighted names."""
    point = rng.random() * sum(weight for _, weight in choices)
    for name, weight in choices:
        point -= weight
        if point <= 0:
            return name
    return choices[-1][0]


def _shade(rng: np.random.Generator, colour: Colour, lightness: float = 0.1, tint: float = 6.0) -> Colour:
    """Draw a shade of a colour: another lightness and a slight tint."""
    factor = 1 + lightness * rng.uniform(-1, 1)
    red, green, blue = (min(245.0, max(14.0, c * factor + tint * rng.uniform(-1, 1))) for c in colour)
    return red, green, blue


def _cloth(rng: np.random.Generator, choices: Weighted, avoid: Colour | None = None) -> Colour:
    """Draw a colour of cloth, far enough from ``avoid`` that a pattern of the two is visible."""
    for _ in range(8):
        colour = COLOURS[_pick(rng, choices)]
        if avoid is None or sum(abs(a - b) for a, b in zip(colour, avoid, strict=True)) > 150:
            break
    else:
        colour = COLOURS["white"] if avoid is not None and sum(avoid) < 380 else COLOURS["black"]
    return _shade(rng, colour)


def _draw(rng: np.random.Generator, wardrobe: Wardrobe) -> Person:
    """Draw a person from scratch."""
    upper = _pick(rng, wardrobe.uppers)
    upper_colour = _cloth(rng, wardrobe.upper_colours)
    second_colour = _cloth(rng, wardrobe.upper_colours, upper_colour)
    hair = _pick(
        rng,
        (("short", 40), ("long", 18), ("bob", 12), ("ponytail", 12), ("bun", 6), ("curly", 8), ("bald", 4)),
    )
    hat_colour = _cloth(rng, wardrobe.bag_colours)
    return Person(
        build=float(rng.choice((0.84, 0.94, 1.0, 1.08, 1.24)) + rng.uniform(-0.04, 0.04)),
        shoulders=float(rng.uniform(0.9, 1.1)),
        legs=float(rng.uniform(0.94, 1.05)),
        head=float(rng.uniform(0.9, 1.1)),
        stride=float(rng.uniform(0.22, 0.5)),
        skin=_shade(rng, SKIN[int(rng.choice(len(SKIN), p=(0.24, 0.28, 0.2, 0.12, 0.1, 0.06)))], 0.05, 3),
        hair=hair,
        hair_colour=_shade(rng, HAIR[int(rng.choice(len(HAIR), p=(0.3, 0.24, 0.16, 0.1, 0.1, 0.04, 0.06)))]),
        hat=_pick(rng, wardrobe.hats),
        hat_colour=hat_colour,
        upper=upper,
        long_sleeves=upper in _LONG_SLEEVED or (upper == "dress" and rng.random() < 0.3),
        open_front=upper in _OPEN_FRONTED and rng.random() < 0.6,
        pattern=_pick(rng, wardrobe.patterns),
        pattern_scale=float(rng.uniform(0.04, 0.085)),
        upper_colour=upper_colour,
        second_colour=second_colour,
        contrast_sleeves=rng.random() < 0.16,
        inner_colour=_cloth(rng, wardrobe.upper_colours, upper_colour),
        lower=_pick(rng, wardrobe.lowers),
        lower_colour=_cloth(rng, wardrobe.lower_colours),
        lower_trim=_pick(rng, (("none", 70), ("stripe", 14), ("fade", 16))),
        shoe=_pick(rng, (("sneaker", 50), ("boot", 22), ("plain", 28))),
        shoe_colour=_cloth(rng, wardrobe.shoe_colours),
        bag=_pick(rng, wardrobe.bags),
        bag_colour=_cloth(rng, wardrobe.bag_colours),
        left_handed=rng.random() < 0.5,
    )


def _vary(base: Person, rng: np.random.Generator, wardrobe: Wardrobe) -> Person:
    """Change the body and three attributes of an outfit, none of which is the garments themselves."""
    other = _draw(rng, wardrobe)
    body = replace(
        base,
        build=float(np.clip(base.build + rng.uniform(-0.1, 0.1), 0.8, 1.3)),
        legs=other.legs,
        head=other.head,
        stride=other.stride,
        skin=other.skin if rng.random() < 0.3 else base.skin,
    )
    changes = (
        {"shoe": other.shoe, "shoe_colour": other.shoe_colour},
        {"bag": other.bag, "bag_colour": other.bag_colour},
        {"hair": other.hair, "hair_colour": other.hair_colour},
        {"hat": other.hat, "hat_colour": other.hat_colour},
        {"upper_colour": _shade(rng, base.upper_colour, 0.22, 16)},
        {"second_colour": other.second_colour, "inner_colour": other.inner_colour},
        {"lower_colour": _shade(rng, base.lower_colour, 0.28, 16), "lower_trim": other.lower_trim},
    )
    for index in rng.choice(len(changes), 3, replace=False):
        body = replace(body, **changes[int(index)])
    return body
