"""What people carry."""

from __future__ import annotations

from nplp_synthetic.body import Point2
from nplp_synthetic.painter import Paint, mix
from nplp_synthetic.sitter import Sitter

__all__ = ["paint_backpack", "paint_carried", "paint_straps"]

_STEEL = (92.0, 92.0, 96.0)
_LIT = (235.0, 235.0, 235.0)


def paint_backpack(sitter: Sitter) -> None:
    """Paint a backpack on the back; nothing where none is worn."""
    if sitter.person.bag != "backpack":
        return
    body, view, colour = sitter.body, sitter.view, sitter.person.bag_colour
    depth = -body.half_depth - 0.045
    half = sitter.px(view.breadth(0.088, 0.058))
    stations = [
        (sitter.at(0.0, body.shoulder + 0.02, depth), 0.6 * half),
        (sitter.at(0.0, body.shoulder - 0.025, depth), 0.96 * half),
        (sitter.at(0.0, body.waist + 0.06, depth), 1.08 * half),
        (sitter.at(0.0, body.waist - 0.03, depth), 0.95 * half),
    ]
    sitter.painter.loft(stations, Paint(colour))
    if view.facing < -0.2:
        heights = (body.waist + 0.075, body.waist - 0.015)
        pocket = [(sitter.at(0.0, y, depth), 0.62 * half) for y in heights]
        sitter.painter.loft(pocket, Paint(mix(colour, _LIT, 0.16)))


def paint_straps(sitter: Sitter) -> None:
    """Paint the straps of a backpack seen from the front, or a messenger bag's across the chest."""
    person, view, body = sitter.person, sitter.view, sitter.body
    if person.bag == "backpack" and view.facing > -0.1:
        for side in (-body.half_shoulder, body.half_shoulder):
            if view.depth((0.7 * side, 0.0, body.half_depth)) > -0.02:
                strap = [
                    sitter.at(0.62 * side, body.shoulder + 0.012, 0.02),
                    sitter.at(0.66 * side, body.shoulder - 0.09, body.half_depth),
                    sitter.at(0.86 * side, body.waist + 0.05, 0.4 * body.half_depth),
                ]
                sitter.painter.line(strap, person.bag_colour, sitter.px(0.026))
    elif person.bag == "messenger":
        side = 1.0 if person.left_handed else -1.0
        reach = body.half_depth if view.facing > 0 else -body.half_depth
        strap = [
            sitter.at(-side * 0.6 * body.half_shoulder, body.shoulder + 0.01, 0.0),
            sitter.at(0.0, (body.shoulder + body.waist) / 2, 1.05 * reach),
            sitter.at(side * body.half_hip, body.hip + 0.02, 0.3 * reach),
        ]
        sitter.painter.line(strap, person.bag_colour, sitter.px(0.02))


def paint_carried(sitter: Sitter) -> None:
    """Paint what hangs at the side or from a hand: messenger bag, handbag or trolley."""
    person, view, body, painter = sitter.person, sitter.view, sitter.body, sitter.painter
    side, limbs = (1.0, body.left) if person.left_handed else (-1.0, body.right)
    if person.bag == "messenger":
        hip = (side * (body.half_hip + 0.03), body.hip - 0.01, -0.02)
        if view.depth(hip) > -0.07:
            _paint_case(sitter, view.project(hip), view.breadth(0.045, 0.085), 0.062)
    elif person.bag == "handbag":
        x, y = view.project(limbs.hand)
        breadth, drop = view.breadth(0.038, 0.07), sitter.px(0.1)
        for edge in (-0.6, 0.6):
            handle = [(x, y), (x + edge * sitter.px(breadth), y + 0.5 * drop)]
            painter.line(handle, person.bag_colour, sitter.px(0.01))
        _paint_case(sitter, (x, y + drop), breadth, 0.052)
    elif person.bag == "trolley":
        x, z = limbs.hand[0] + side * 0.03, limbs.hand[2] - 0.13
        painter.line([view.project(limbs.hand), sitter.at(x, 0.27, z)], _STEEL, sitter.px(0.012))
        _paint_case(sitter, sitter.at(x, 0.15, z), view.breadth(0.075, 0.05), 0.125)


def _paint_case(sitter: Sitter, middle: Point2, breadth: float, height: float) -> None:
    """Paint a bag with a lighter flap; half axes in units."""
    x, y = middle
    half_x, half_y = sitter.px(breadth), sitter.px(height)
    colour = sitter.person.bag_colour
    stations = [((x, y - half_y), 0.9 * half_x), ((x, y - 0.7 * half_y), half_x), ((x, y + half_y), half_x)]
    sitter.painter.loft(stations, Paint(colour))
    flap = [(x - 0.9 * half_x, y - 0.25 * half_y), (x + 0.9 * half_x, y - 0.25 * half_y)]
    sitter.painter.line(flap, mix(colour, _LIT, 0.3), 0.18 * half_y)
