"""Heads, hair, hats and bags."""

from __future__ import annotations

from nplp.data.synthetic.body import Limbs, Point2, Skeleton, View
from nplp.data.synthetic.painter import Paint, Painter, mix
from nplp.data.synthetic.person import Person

__all__ = ["paint_backpack", "paint_carried", "paint_head", "paint_straps"]

_DARK = (24.0, 20.0, 20.0)


def paint_head(painter: Painter, person: Person, view: View, body: Skeleton) -> None:
    """Paint head, face, hair and hat."""
    half_y = 0.5 * (body.crown - body.chin) * view.scale
    half_x = 0.79 * half_y * (1 + 0.1 * abs(view.profile))
    centre = view.project((0.0, (body.crown + body.chin) / 2, 0.014))
    x, y = centre
    if person.hair in ("bob", "curly") and person.hat != "hood":
        spread = 1.3 if person.hair == "curly" else 1.16
        drop = 0.12 * half_y if person.hair == "curly" else 0.34 * half_y
        painter.ellipse(
            (x - 0.12 * half_x * view.profile, y + drop - 0.1 * half_y),
            spread * half_x,
            (1.14 if person.hair == "curly" else 1.02) * half_y,
            person.hair_colour,
        )
    painter.ellipse(centre, half_x, half_y, person.skin)
    if person.hair != "bald":
        _hair_cap(painter, person, view, centre, half_x, half_y)
    if view.facing > 0.1:
        _face(painter, view, centre, half_x, half_y)
    if person.hat != "none":
        _hat(painter, person, view, centre, half_x, half_y)


def _hair_cap(
    painter: Painter, person: Person, view: View, centre: Point2, half_x: float, half_y: float
) -> None:
    """Paint the hair on the skull: a fringe from the front, all of the head from behind."""
    x, y = centre
    hair = person.hair_colour
    if view.facing < -0.35:
        painter.ellipse((x, y - 0.06 * half_y), 1.05 * half_x, 1.02 * half_y, hair)
    else:
        back = 0.5 * (1 - max(0.0, view.facing))
        shift = -view.profile * half_x * (0.25 + 0.25 * back)
        painter.ellipse((x + shift, y - 0.34 * half_y), half_x * (1.04 - 0.12 * back), 0.74 * half_y, hair)
        face_y = y + 0.26 * half_y
        painter.ellipse((x + 0.3 * half_x * view.profile, face_y), 0.8 * half_x, 0.72 * half_y, person.skin)
        if abs(view.profile) > 0.5:
            painter.ellipse((x + shift * 1.3, y + 0.02 * half_y), 0.5 * half_x, 0.72 * half_y, hair)
    if person.hair == "bun":
        knot = (x - 0.75 * half_x * view.profile, y - 0.85 * half_y)
        painter.ellipse(knot, 0.42 * half_x, 0.36 * half_y, hair)


def _face(painter: Painter, view: View, centre: Point2, half_x: float, half_y: float) -> None:
    """Paint eyes and mouth."""
    x, y = centre
    middle = x + 0.5 * half_x * view.profile
    for side in (-1, 1):
        eye = middle + side * 0.36 * half_x * view.facing
        painter.ellipse((eye, y + 0.08 * half_y), 0.13 * half_x, 0.09 * half_y, _DARK, shaded=False)
    mouth = [(middle - 0.2 * half_x, y + 0.58 * half_y), (middle + 0.2 * half_x, y + 0.58 * half_y)]
    painter.line(mouth, (140, 70, 64), 0.1 * half_y)


def _hat(painter: Painter, person: Person, view: View, centre: Point2, half_x: float, half_y: float) -> None:
    """Paint a cap, beanie, sunhat or hood."""
    x, y = centre
    colour = person.upper_colour if person.hat == "hood" else person.hat_colour
    if person.hat == "hood":
        painter.ellipse((x - 0.15 * half_x * view.profile, y), 1.25 * half_x, 1.14 * half_y, colour)
        if view.facing > -0.2:
            opening = (x + 0.4 * half_x * view.profile, y + 0.12 * half_y)
            painter.ellipse(
                opening, 0.72 * half_x * (0.6 + 0.4 * abs(view.facing)), 0.8 * half_y, person.skin
            )
            if view.facing > 0.1:
                _face(painter, view, centre, half_x, half_y)
        return
    tall = 1.12 if person.hat == "beanie" else 1.04
    dome = [
        (x - 1.06 * half_x, y - 0.22 * half_y),
        (x - 0.98 * half_x, y - 0.72 * half_y * tall),
        (x - 0.5 * half_x, y - 1.06 * half_y * tall),
        (x + 0.5 * half_x, y - 1.06 * half_y * tall),
        (x + 0.98 * half_x, y - 0.72 * half_y * tall),
        (x + 1.06 * half_x, y - 0.22 * half_y),
    ]
    painter.polygon(dome, Paint(colour))
    if person.hat == "beanie":
        rim = [(x - 1.06 * half_x, y - 0.3 * half_y), (x + 1.06 * half_x, y - 0.3 * half_y)]
        painter.line(rim, mix(colour, (255, 255, 255), 0.22), 0.26 * half_y)
    elif person.hat == "sunhat":
        painter.ellipse((x, y - 0.34 * half_y), 1.75 * half_x, 0.24 * half_y, mix(colour, _DARK, 0.12))
    elif view.facing > -0.4:
        peak = (x + 0.8 * half_x * view.profile, y - 0.26 * half_y)
        painter.ellipse(peak, 0.85 * half_x, 0.2 * half_y, mix(colour, _DARK, 0.25))


def paint_backpack(painter: Painter, person: Person, view: View, body: Skeleton) -> None:
    """Paint a backpack on the back."""
    depth = -body.half_depth - 0.05
    half = view.breadth(0.088, 0.058) * view.scale
    stations = [
        (view.project((0.0, body.shoulder + 0.02, depth)), 0.6 * half),
        (view.project((0.0, body.shoulder - 0.025, depth)), 0.96 * half),
        (view.project((0.0, body.waist + 0.06, depth)), 1.08 * half),
        (view.project((0.0, body.waist - 0.03, depth)), 0.95 * half),
    ]
    painter.loft(stations, Paint(person.bag_colour))
    if view.facing < -0.2:
        pocket = [
            (view.project((0.0, body.waist + 0.075, depth)), 0.62 * half),
            (view.project((0.0, body.waist - 0.015, depth)), 0.62 * half),
        ]
        painter.loft(pocket, Paint(mix(person.bag_colour, (230, 230, 230), 0.16)))


def paint_straps(painter: Painter, person: Person, view: View, body: Skeleton) -> None:
    """Paint the straps of a backpack seen from the front, or a messenger bag's across the chest."""
    if person.bag == "backpack" and view.facing > -0.1:
        for side in (-1, 1):
            points = [
                view.project((side * 0.62 * body.half_shoulder, body.shoulder + 0.012, 0.02)),
                view.project((side * 0.66 * body.half_shoulder, body.shoulder - 0.09, body.half_depth)),
                view.project((side * 0.86 * body.half_shoulder, body.waist + 0.05, 0.4 * body.half_depth)),
            ]
            if view.depth((side * 0.7 * body.half_shoulder, 0.0, body.half_depth)) > -0.02:
                painter.line(points, person.bag_colour, 0.026 * view.scale)
    if person.bag == "messenger":
        side = 1.0 if person.left_handed else -1.0
        reach = body.half_depth if view.facing > 0 else -body.half_depth
        top = view.project((-side * 0.6 * body.half_shoulder, body.shoulder + 0.01, 0.0))
        middle = view.project((0.0, (body.shoulder + body.waist) / 2, 1.05 * reach))
        bottom = view.project((side * body.half_hip, body.hip + 0.02, 0.3 * reach))
        painter.line([top, middle, bottom], person.bag_colour, 0.02 * view.scale)


def paint_carried(painter: Painter, person: Person, view: View, body: Skeleton) -> None:
    """Paint what hangs at the side or from a hand: messenger bag, handbag or trolley."""
    limbs = body.left if person.left_handed else body.right
    side = 1.0 if person.left_handed else -1.0
    if person.bag == "messenger":
        at = (side * (body.half_hip + 0.03), body.hip - 0.01, -0.02)
        if view.depth(at) > -0.07:
            _box(
                painter, view.project(at), view.breadth(0.045, 0.085) * view.scale, 0.062 * view.scale, person
            )
    elif person.bag == "handbag":
        _handbag(painter, person, view, limbs)
    elif person.bag == "trolley":
        grip = limbs.hand
        at = (grip[0] + side * 0.03, 0.15, grip[2] - 0.13)
        painter.line(
            [view.project(grip), view.project((at[0], 0.27, at[2]))], (92, 92, 96), 0.012 * view.scale
        )
        _box(painter, view.project(at), view.breadth(0.075, 0.05) * view.scale, 0.125 * view.scale, person)


def _handbag(painter: Painter, person: Person, view: View, limbs: Limbs) -> None:
    """Paint a bag that hangs from the hand."""
    hand = view.project(limbs.hand)
    half = view.breadth(0.038, 0.07) * view.scale
    drop = 0.1 * view.scale
    for side in (-1, 1):
        painter.line(
            [hand, (hand[0] + side * 0.6 * half, hand[1] + 0.5 * drop)], person.bag_colour, 0.01 * view.scale
        )
    _box(painter, (hand[0], hand[1] + drop), half, 0.052 * view.scale, person)


def _box(painter: Painter, centre: Point2, half_x: float, half_y: float, person: Person) -> None:
    """Paint a bag with a lighter flap."""
    x, y = centre
    stations = [((x, y - half_y), 0.9 * half_x), ((x, y - 0.7 * half_y), half_x), ((x, y + half_y), half_x)]
    painter.loft(stations, Paint(person.bag_colour))
    flap = [(x - 0.9 * half_x, y - 0.25 * half_y), (x + 0.9 * half_x, y - 0.25 * half_y)]
    painter.line(flap, mix(person.bag_colour, (235, 235, 235), 0.3), 0.18 * half_y)
