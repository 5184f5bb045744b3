"""The clothes of each domain: which garments, patterns, bags and colours people wear, and how often."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType

__all__ = ["COLOURS", "HAIR", "SKIN", "WARDROBES", "Colour", "Wardrobe"]

Colour = tuple[float, float, float]
Weighted = tuple[tuple[str, float], ...]

COLOURS: Mapping[str, Colour] = MappingProxyType(
    {
        "white": (232, 230, 226),
        "cream": (222, 208, 178),
        "silver": (172, 176, 180),
        "grey": (118, 120, 124),
        "charcoal": (62, 64, 70),
        "black": (30, 30, 34),
        "navy": (34, 46, 88),
        "denim": (68, 92, 134),
        "pale denim": (132, 156, 188),
        "blue": (40, 86, 176),
        "sky": (122, 178, 222),
        "turquoise": (42, 156, 160),
        "green": (48, 132, 66),
        "lime": (150, 190, 62),
        "olive": (98, 100, 58),
        "forest": (36, 72, 52),
        "yellow": (228, 196, 58),
        "mustard": (186, 142, 46),
        "orange": (222, 118, 42),
        "red": (188, 40, 44),
        "burgundy": (106, 30, 46),
        "pink": (226, 148, 168),
        "magenta": (182, 50, 122),
        "violet": (110, 72, 150),
        "beige": (192, 170, 136),
        "camel": (164, 124, 78),
        "brown": (98, 66, 46),
    }
)
"""Colours of cloth under neutral light, 0-255 RGB."""

SKIN: tuple[Colour, ...] = (
    (236, 196, 170),
    (224, 178, 146),
    (202, 150, 114),
    (168, 116, 82),
    (126, 84, 60),
    (88, 58, 44),
)
HAIR: tuple[Colour, ...] = (
    (26, 22, 22),
    (50, 36, 28),
    (88, 58, 36),
    (134, 92, 52),
    (196, 160, 98),
    (140, 60, 32),
    (158, 156, 154),
)


@dataclass(frozen=True)
class Wardrobe:
    """What the people of a domain wear; every field is (name, weight) pairs.

    Attributes:
        uppers: Garments of the upper body; ``dress`` and ``coat`` reach below the hips.
        lowers: Garments of the legs.
        patterns: Patterns of the upper garment.
        upper_colours: Colours of the upper garment and its second colour.
        lower_colours: Colours of the lower garment.
        bags: What is carried.
        bag_colours: Its colour.
        hats: What is worn on the head.
        shoe_colours: Colours of the shoes.
    """

    uppers: Weighted
    lowers: Weighted
    patterns: Weighted
    upper_colours: Weighted
    lower_colours: Weighted
    bags: Weighted
    bag_colours: Weighted
    hats: Weighted
    shoe_colours: Weighted


def _weights(text: str) -> Weighted:
    """Parse ``"name 3, other name 1"`` into (name, weight) pairs."""
    pairs = (item.strip().rsplit(" ", 1) for item in text.split(","))
    return tuple((name, float(weight)) for name, weight in pairs)


_PLAZA = Wardrobe(
    uppers=_weights("tee 42, shirt 16, vest 8, jacket 10, hoodie 6, dress 12, blouse 6"),
    lowers=_weights("trousers 42, shorts 30, skirt 16, leggings 12"),
    patterns=_weights("plain 34, stripes 16, print 20, checks 8, block 10, dots 6, sash 6"),
    upper_colours=_weights(
        "white 14, sky 7, blue 8, red 10, yellow 7, orange 5, pink 7, green 7, lime 4, turquoise 6, "
        "black 8, grey 6, navy 4, magenta 4, violet 4, cream 4, beige 3"
    ),
    lower_colours=_weights(
        "denim 20, pale denim 12, black 12, white 8, beige 12, grey 8, navy 6, olive 6, red 3, "
        "turquoise 3, pink 3, brown 4"
    ),
    bags=_weights("none 46, backpack 22, handbag 18, messenger 14"),
    bag_colours=_weights("black 20, brown 14, red 12, blue 10, yellow 8, green 8, grey 10, white 8, pink 6"),
    hats=_weights("none 78, cap 16, sunhat 6"),
    shoe_colours=_weights("white 30, black 22, brown 12, grey 10, red 8, blue 8, beige 8, lime 4"),
)

_STATION = Wardrobe(
    uppers=_weights("coat 24, jacket 26, parka 14, hoodie 12, shirt 12, blouse 8, dress 4"),
    lowers=_weights("trousers 70, skirt 14, leggings 16"),
    patterns=_weights("plain 46, stripes 9, print 9, checks 12, block 16, quilt 8"),
    upper_colours=_weights(
        "black 16, charcoal 12, navy 12, grey 10, brown 7, camel 8, burgundy 7, forest 6, olive 6, "
        "mustard 4, red 4, silver 4, cream 4, denim 5, violet 3, blue 4"
    ),
    lower_colours=_weights(
        "black 24, charcoal 14, navy 13, denim 16, grey 10, brown 7, beige 6, olive 5, burgundy 3, cream 2"
    ),
    bags=_weights("none 32, backpack 20, handbag 14, messenger 14, trolley 20"),
    bag_colours=_weights(
        "black 26, charcoal 12, brown 16, navy 10, burgundy 8, camel 8, red 8, blue 6, silver 6"
    ),
    hats=_weights("none 70, beanie 18, cap 6, hood 6"),
    shoe_colours=_weights("black 42, brown 24, white 14, grey 10, burgundy 5, camel 5"),
)

# A cool morning and a warm noon, at the campus and at the harbour: what is worn at the plaza and what is
# worn at the station, half each.
_CAMPUS = Wardrobe(
    **{field.name: getattr(_PLAZA, field.name) + getattr(_STATION, field.name) for field in fields(Wardrobe)}
)

WARDROBES: Mapping[str, Wardrobe] = MappingProxyType(
    {"plaza": _PLAZA, "station": _STATION, "campus": _CAMPUS, "harbour": _STATION}
)
"""The wardrobe of each domain, by the domain's name."""
