"""Heads, faces, hair and hats."""

from __future__ import annotations

from dataclasses import dataclass

from nplp_synthetic.painter import Paint, mix
from nplp_synthetic.sitter import Sitter

__all__ = ["paint_hair_fall", "paint_head"]

_DARK = (24.0, 20.0, 20.0)
_WHITE = (255.0, 255.0, 255.0)
_LIPS = (140.0, 60.0, 54.0)


@dataclass(frozen=True)
class _Head:
    """Middle and half axes of the head in pixels."""

    x: float
    y: float
    half_x: float
    half_y: float

    def at(self, across: float, down: float) -> tuple[float, float]:
        """Return the pixel at a place given in half axes from the middle."""
        return self.x + across * self.half_x, self.y + down * self.half_y


def paint_head(sitter: Sitter) -> None:
    """Paint head, face, hair and hat.

    Args:
        sitter: Whose.
    """
    person, painter, view, body = sitter.person, sitter.painter, sitter.view, sitter.body
    half_y = sitter.px(0.5 * (body.crown - body.chin))
    x, y = sitter.at(0.0, (body.crown + body.chin) / 2, 0.014)
    head = _Head(x, y, 0.78 * half_y * (1 + 0.12 * abs(view.profile)), half_y)
    if person.hat == "hood":
        _paint_hood(sitter, head)
        return
    if person.hair == "curly":
        painter.ellipse(
            head.at(-0.18 * view.profile, -0.06), 1.3 * head.half_x, 1.14 * half_y, person.hair_colour
        )
    elif person.hair == "bob":
        painter.ellipse(
            head.at(-0.22 * view.profile, 0.2), 1.16 * head.half_x, 1.02 * half_y, person.hair_colour
        )
    painter.ellipse((x, y), head.half_x, half_y, person.skin)
    if person.hair != "bald":
        _paint_hair_cap(sitter, head)
    if view.facing > -0.3:
        _paint_face(sitter, head)
    if person.hat != "none":
        _paint_hat(sitter, head)


def paint_hair_fall(sitter: Sitter) -> None:
    """Paint long hair that falls on the back, or the tail of it; nothing on other heads."""
    person, body = sitter.person, sitter.body
    if person.hat == "hood" or person.hair not in ("long", "ponytail"):
        return
    if person.hair == "long":
        half = sitter.px(sitter.view.breadth(0.066, 0.044))
        stations = [
            (sitter.at(0.0, body.crown - 0.012, -0.012), 0.5 * half),
            (sitter.at(0.0, body.crown - 0.045, -0.02), 0.98 * half),
            (sitter.at(0.0, body.chin, -0.034), 1.08 * half),
            (sitter.at(0.0, body.shoulder - 0.03, -0.05), 1.0 * half),
            (sitter.at(0.0, body.shoulder - 0.085, -0.06), 0.5 * half),
        ]
        sitter.painter.loft(stations, Paint(person.hair_colour))
    else:
        knot = sitter.at(0.0, body.crown - 0.035, -0.06)
        end = sitter.at(0.0, body.shoulder - 0.01, -0.085)
        sitter.painter.limb(knot, end, sitter.px(0.024), sitter.px(0.012), Paint(person.hair_colour))


def _paint_hair_cap(sitter: Sitter, head: _Head) -> None:
    """Paint the hair on the skull: a fringe from the front, its back in profile, all of it from behind."""
    painter, view, hair = sitter.painter, sitter.view, sitter.person.hair_colour
    if view.facing < -0.45:
        painter.ellipse(head.at(0.0, -0.06), 1.05 * head.half_x, 1.02 * head.half_y, hair)
    else:
        behind = 0.55 * abs(view.profile) + 0.25 * max(0.0, -view.facing)
        side = -1.0 if view.profile > 0 else 1.0
        painter.ellipse(head.at(side * 0.3 * behind, -0.3), 1.03 * head.half_x, 0.78 * head.half_y, hair)
        painter.ellipse(head.at(side * 0.75 * behind, 0.0), 0.66 * head.half_x, 0.86 * head.half_y, hair)
        brow = head.at(-side * (0.1 + 0.36 * behind), 0.26)
        painter.ellipse(brow, (0.84 - 0.24 * behind) * head.half_x, 0.7 * head.half_y, sitter.person.skin)
    if sitter.person.hair == "bun":
        painter.ellipse(head.at(-0.75 * view.profile, -0.85), 0.42 * head.half_x, 0.36 * head.half_y, hair)


def _paint_face(sitter: Sitter, head: _Head) -> None:
    """Paint the eyes and the mouth, one eye in profile."""
    painter, view, skin = sitter.painter, sitter.view, sitter.person.skin
    middle = 0.62 * view.profile
    socket = mix(skin, _DARK, 0.72)
    offsets = (-0.34 * view.facing, 0.34 * view.facing) if view.facing > 0.35 else (0.0,)
    for offset in offsets:
        painter.ellipse(
            head.at(middle + offset, 0.06), 0.13 * head.half_x, 0.075 * head.half_y, socket, False
        )
    lips = [head.at(middle - 0.18, 0.56), head.at(middle + 0.18, 0.56)]
    painter.line(lips, mix(skin, _LIPS, 0.6), 0.1 * head.half_y)


def _paint_hood(sitter: Sitter, head: _Head) -> None:
    """Paint a raised hood and the face in it."""
    painter, view, person = sitter.painter, sitter.view, sitter.person
    hood = head.at(-0.2 * view.profile, -0.02)
    painter.ellipse(hood, 1.25 * head.half_x, 1.14 * head.half_y, person.upper_colour)
    if view.facing > -0.2:
        half = 0.74 * head.half_x * (0.55 + 0.45 * abs(view.facing))
        painter.ellipse(head.at(0.42 * view.profile, 0.12), half, 0.78 * head.half_y, person.skin)
        _paint_face(sitter, head)


def _paint_hat(sitter: Sitter, head: _Head) -> None:
    """Paint a cap, a beanie or a sunhat."""
    painter, view = sitter.painter, sitter.view
    colour, kind = sitter.person.hat_colour, sitter.person.hat
    tall = 1.12 if kind == "beanie" else 1.04
    curve = ((1.06, -0.22), (0.98, -0.72 * tall), (0.5, -1.06 * tall))
    dome = [head.at(-x, y) for x, y in curve] + [head.at(x, y) for x, y in reversed(curve)]
    painter.polygon(dome, Paint(colour))
    if kind == "beanie":
        painter.line(
            [head.at(-1.06, -0.3), head.at(1.06, -0.3)], mix(colour, _WHITE, 0.22), 0.26 * head.half_y
        )
    elif kind == "sunhat":
        brim = mix(colour, _DARK, 0.12)
        painter.ellipse(head.at(0.0, -0.34), 1.75 * head.half_x, 0.24 * head.half_y, brim)
    elif view.facing > -0.4:
        peak = mix(colour, _DARK, 0.25)
        painter.ellipse(head.at(0.8 * view.profile, -0.26), 0.85 * head.half_x, 0.2 * head.half_y, peak)
