"""What is worn on the upper body."""

from __future__ import annotations

from nplp_synthetic.painter import Paint, mix
from nplp_synthetic.sitter import Sitter
from nplp_synthetic.textures import Cloth, weave

__all__ = ["paint_torso", "upper_paints"]

_PADDED = frozenset({"coat", "parka", "jacket", "hoodie"})
_FLARE = {"dress": 1.5, "coat": 1.26, "parka": 1.16, "blouse": 1.16}
# Length below the hips.
_LENGTH = {"coat": 0.19, "parka": 0.1, "dress": 0.17, "jacket": 0.015, "vest": -0.01, "blouse": 0.04}
_SHADOW = (40.0, 20.0, 10.0)


def upper_paints(sitter: Sitter) -> tuple[Paint, Paint]:
    """Return what the upper garment and its sleeves are filled with.

    Args:
        sitter: Whose.

    Returns:
        The paints of the garment and of its sleeves.
    """
    person, view = sitter.person, sitter.view
    x, y = sitter.at(0.0, sitter.body.shoulder, 0.0)
    cloth = Cloth(
        size=sitter.painter.canvas.size,
        first=person.upper_colour,
        second=person.second_colour,
        unit=sitter.px(person.pattern_scale),
        origin=(x - sitter.px(view.profile * sitter.body.half_depth), y),
        reach=sitter.px(0.16),
    )
    upper = Paint(person.upper_colour, weave(person.pattern, cloth))
    if person.contrast_sleeves:
        return upper, Paint(person.second_colour)
    # A block or sash ends at the sleeve.
    return upper, Paint(person.upper_colour) if person.pattern in ("block", "sash") else upper


def paint_torso(sitter: Sitter, upper: Paint) -> None:
    """Paint the neck and the upper garment with its front, print and collar.

    Args:
        sitter: Whose.
        upper: What the garment is filled with.
    """
    person, painter, view, body = sitter.person, sitter.painter, sitter.view, sitter.body
    neck = sitter.at(0.0, body.shoulder + 0.03, 0.0)
    chin = sitter.at(0.0, body.chin + 0.02, 0.012)
    painter.limb(neck, chin, sitter.px(0.036), sitter.px(0.034), Paint(mix(person.skin, _SHADOW, 0.15)))
    stations = sitter.rings(_torso_rings(sitter))
    painter.loft(stations, upper)
    (x, y), half = stations[-1]
    painter.crease([(x - half, y), (x + half, y)], 92, sitter.px(0.012))
    if person.open_front and view.facing > 0.15:
        _paint_inner(sitter)
    elif person.upper in _PADDED and view.facing > 0.1:
        front = 1.1 * body.half_depth
        seam = [sitter.at(0.0, body.shoulder, front), sitter.at(0.0, _hem(sitter), front)]
        painter.crease(seam, 84, sitter.px(0.012))
    if person.pattern == "print" and abs(view.facing) > 0.25 and not person.open_front:
        _paint_print(sitter)
    if person.upper in ("shirt", "coat", "jacket"):
        _paint_collar(sitter)


def _hem(sitter: Sitter) -> float:
    """Return the height at which the upper garment ends."""
    return sitter.body.hip - _LENGTH.get(sitter.person.upper, 0.025)


def _torso_rings(sitter: Sitter) -> list[tuple[float, float, float]]:
    """Return the rings of the upper garment: (height, lateral half axis, half depth)."""
    body, upper = sitter.body, sitter.person.upper
    shoulder, hips, depth = body.half_shoulder, body.half_hip, body.half_depth
    padding = 1.12 if upper in _PADDED else 1.0
    rings = [
        (body.shoulder + 0.036, 0.042, 0.04),
        (body.shoulder + 0.016, 0.62 * shoulder, 0.6 * depth),
        (body.shoulder - 0.006, 1.0 * shoulder, 0.8 * depth),
        (body.shoulder - 0.03, 1.08 * shoulder, 0.9 * depth),
        (body.shoulder - 0.085, 0.95 * shoulder * padding, 1.04 * depth * padding),
        (body.waist, 0.9 * hips * padding, 0.88 * depth * padding),
        (body.hip, 1.04 * hips * padding, depth * padding),
    ]
    hem, flare = _hem(sitter), _FLARE.get(upper, 1.03)
    if hem < body.hip:
        rings.append((hem, flare * hips * padding, flare * depth * padding))
    return rings


def _paint_inner(sitter: Sitter) -> None:
    """Paint what shows where an open jacket parts."""
    body = sitter.body
    front = 1.05 * body.half_depth
    half = sitter.px(0.036 * max(0.3, sitter.view.facing))
    stations = [
        (sitter.at(0.0, body.shoulder + 0.02, 0.6 * front), 0.8 * half),
        (sitter.at(0.0, body.waist, front), half),
        (sitter.at(0.0, max(_hem(sitter), body.hip - 0.05), front), 1.2 * half),
    ]
    sitter.painter.loft(stations, Paint(sitter.person.inner_colour))


def _paint_print(sitter: Sitter) -> None:
    """Paint a print: on the chest, or a larger one on the back."""
    person, painter, view, body = sitter.person, sitter.painter, sitter.view, sitter.body
    front = view.facing > 0
    size = (0.05 if front else 0.062) + 0.3 * (person.pattern_scale - 0.04)
    x, y = sitter.at(0.0, body.shoulder - 0.115, body.half_depth * (1 if front else -1))
    half_x, half_y = sitter.px(size * abs(view.facing)), sitter.px(size)
    paint = Paint(person.second_colour)
    shape = int(person.pattern_scale * 1000) % 3
    if shape == 0:
        painter.ellipse((x, y), half_x, half_y, person.second_colour, shaded=False)
    elif shape == 1:
        corners = [(x - half_x, y - half_y), (x + half_x, y - half_y), (x, y + half_y)]
        painter.polygon(corners, paint, shaded=False)
    else:
        for offset in (-0.7, 0.3):
            top, bottom = y + offset * half_y, y + (offset + 0.6) * half_y
            bar = [(x - half_x, top), (x + half_x, top), (x + half_x, bottom), (x - half_x, bottom)]
            painter.polygon(bar, paint, shaded=False)


def _paint_collar(sitter: Sitter) -> None:
    """Paint a collar: two flaps at the throat, or a band from behind."""
    person, view, body = sitter.person, sitter.view, sitter.body
    tone = mix(
        person.upper_colour, (255.0, 255.0, 255.0) if sum(person.upper_colour) < 380 else _SHADOW, 0.14
    )
    if view.facing > 0.1:
        throat = sitter.at(0.0, body.shoulder - 0.028, body.half_depth)
        for side in (-1, 1):
            flap = [
                sitter.at(side * 0.016, body.shoulder + 0.045, 0.02),
                sitter.at(side * 0.058, body.shoulder + 0.018, 0.02),
                throat,
            ]
            sitter.painter.polygon(flap, Paint(tone))
    else:
        ends = [sitter.at(side * 0.042, body.shoulder + 0.034, -0.02) for side in (-1, 1)]
        sitter.painter.line(ends, tone, sitter.px(0.024))
