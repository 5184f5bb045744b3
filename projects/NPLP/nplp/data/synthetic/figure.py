"""A dressed person, painted from the back to the front."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nplp.data.synthetic.accessories import paint_backpack, paint_carried, paint_head, paint_straps
from nplp.data.synthetic.body import Limbs, Point2, Skeleton, View, skeleton
from nplp.data.synthetic.painter import Paint, Painter, mix
from nplp.data.synthetic.person import Person
from nplp.data.synthetic.textures import pattern_texture

__all__ = ["Pose", "paint_person"]


@dataclass(frozen=True)
class Pose:
    """What a person is doing at a moment.

    Attributes:
        phase: Phase of the walk in radians.
        effort: Share of the full step, 0 standing.
        raised_arm: Angle in radians by which the right forearm is raised.
    """

    phase: float
    effort: float
    raised_arm: float = 0.0


def paint_person(painter: Painter, person: Person, view: View, pose: Pose) -> None:
    """Paint a person.

    Args:
        painter: Where to paint.
        person: Whom.
        view: How the camera sees the person.
        pose: What the person is doing.
    """
    body = skeleton(person, pose.phase, pose.effort, pose.raised_arm)
    _ground_shadow(painter, view, body)
    upper, sleeve = _upper_paints(painter, person, view, body)
    sides = sorted((body.left, body.right), key=lambda limbs: view.depth(limbs.shoulder))
    behind = view.facing > 0
    if person.bag == "backpack" and behind:
        paint_backpack(painter, person, view, body)
    if view.depth(sides[0].shoulder) < -0.04:
        _arm(painter, person, view, sides[0], sleeve)
    if person.hair in ("long", "ponytail") and behind and person.hat != "hood":
        _long_hair(painter, person, view, body)
    _legs(painter, person, view, body)
    _torso(painter, person, view, body, upper)
    if person.open_front and view.facing > 0.15:
        _inner_garment(painter, person, view, body)
    if person.pattern == "print" and abs(view.facing) > 0.25 and not person.open_front:
        _print(painter, person, view, body)
    paint_straps(painter, person, view, body)
    if person.bag == "backpack" and not behind:
        paint_backpack(painter, person, view, body)
    paint_head(painter, person, view, body)
    if person.hair in ("long", "ponytail") and not behind and person.hat != "hood":
        _long_hair(painter, person, view, body)
    near = sides if view.depth(sides[0].shoulder) >= -0.04 else sides[1:]
    for limbs in near:
        _arm(painter, person, view, limbs, sleeve)
    paint_carried(painter, person, view, body)


def _upper_paints(painter: Painter, person: Person, view: View, body: Skeleton) -> tuple[Paint, Paint]:
    """Return what the upper garment and its sleeves are filled with."""
    x, y = view.project((0.0, body.shoulder, 0.0))
    offset = -view.profile * body.half_depth * view.scale
    texture = pattern_texture(
        painter.canvas.size,
        person.pattern,
        person.upper_colour,
        person.second_colour,
        person.pattern_scale * view.scale,
        (x + offset, y),
        0.16 * view.scale,
    )
    upper = Paint(person.upper_colour, texture)
    plain_sleeve = person.pattern in ("block", "sash", "print", "plain")
    if person.contrast_sleeves:
        return upper, Paint(person.second_colour)
    return upper, Paint(person.upper_colour) if plain_sleeve else upper


def _ground_shadow(painter: Painter, view: View, body: Skeleton) -> None:
    """Darken the ground around the feet."""
    x, y = view.project((0.0, 0.0, 0.0))
    half = 1.5 * body.half_hip * view.scale
    for factor, level in ((1.5, 116), (1.0, 96)):
        painter.crease([(x - factor * half, y), (x + factor * half, y)], level, 0.035 * view.scale / factor)


def _loft(view: View, rings: list[tuple[float, float, float]]) -> list[tuple[Point2, float]]:
    """Project rings (height, lateral half axis, half depth) to stations of a loft."""
    return [
        (
            view.project((0.0, y, 0.0)),
            view.breadth(lateral, depth) * view.scale * (1 + view.taper * (y - 0.5)),
        )
        for y, lateral, depth in rings
    ]


def _hem(person: Person, body: Skeleton) -> float:
    """Return the height at which the upper garment ends."""
    return {
        "coat": body.hip - 0.19,
        "parka": body.hip - 0.1,
        "dress": body.hip - 0.17,
        "jacket": body.hip - 0.015,
        "vest": body.hip + 0.01,
        "blouse": body.hip - 0.04,
    }.get(person.upper, body.hip - 0.025)


def _torso(painter: Painter, person: Person, view: View, body: Skeleton, upper: Paint) -> None:
    """Paint the upper garment with its collar."""
    shoulder, depth = body.half_shoulder, body.half_depth
    padding = 1.12 if person.upper in ("coat", "parka", "jacket", "hoodie") else 1.0
    hem = _hem(person, body)
    rings = [
        (body.shoulder + 0.032, 0.045, 0.04),
        (body.shoulder + 0.012, 0.7 * shoulder, 0.6 * depth),
        (body.shoulder - 0.012, 1.04 * shoulder, 0.85 * depth),
        (body.shoulder - 0.07, 0.94 * shoulder * padding, depth * padding),
        (body.waist, 0.88 * body.half_hip * padding, 0.86 * depth * padding),
        (body.hip, 1.04 * body.half_hip * padding, depth * padding),
    ]
    flare = {"dress": 1.5, "coat": 1.26, "parka": 1.16, "blouse": 1.16}.get(person.upper, 1.03)
    if hem < body.hip:
        rings.append((hem, flare * body.half_hip * padding, flare * depth * padding))
    neck = view.project((0.0, body.shoulder + 0.03, 0.0))
    chin = view.project((0.0, body.chin + 0.02, 0.012))
    painter.limb(
        neck, chin, 0.036 * view.scale, 0.034 * view.scale, Paint(mix(person.skin, (40, 20, 10), 0.15))
    )
    painter.loft(_loft(view, rings), upper)
    bottom, half = _loft(view, rings[-1:])[0]
    painter.crease([(bottom[0] - half, bottom[1]), (bottom[0] + half, bottom[1])], 92, 0.012 * view.scale)
    if person.upper in ("coat", "parka") and not person.open_front and view.facing > 0.1:
        x, y = view.project((0.0, body.shoulder, depth * padding))
        end = view.project((0.0, hem, depth * padding))
        painter.crease([(x, y), end], 84, 0.012 * view.scale)


def _inner_garment(painter: Painter, person: Person, view: View, body: Skeleton) -> None:
    """Paint what shows where an open jacket parts."""
    front = 1.05 * body.half_depth
    half = 0.036 * view.scale * max(0.3, view.facing)
    top = view.project((0.0, body.shoulder + 0.02, 0.6 * front))
    middle = view.project((0.0, body.waist, front))
    bottom = view.project((0.0, max(_hem(person, body), body.hip - 0.05), front))
    stations = [(top, 0.8 * half), (middle, half), (bottom, 1.2 * half)]
    painter.loft(stations, Paint(person.inner_colour))


def _print(painter: Painter, person: Person, view: View, body: Skeleton) -> None:
    """Paint a print: on the chest, or a larger one on the back."""
    front = view.facing > 0
    size = (0.05 if front else 0.062) + 0.3 * (person.pattern_scale - 0.04)
    centre = view.project((0.0, body.shoulder - 0.115, body.half_depth * (1 if front else -1)))
    half_x, half_y = size * abs(view.facing) * view.scale, size * view.scale
    shape = int(person.pattern_scale * 1000) % 3
    x, y = centre
    if shape == 0:
        painter.ellipse(centre, half_x, half_y, person.second_colour, shaded=False)
    elif shape == 1:
        corners = [(x - half_x, y - half_y), (x + half_x, y - half_y), (x, y + half_y)]
        painter.polygon(corners, Paint(person.second_colour), shaded=False)
    else:
        for offset in (-0.7, 0.3):
            bar = y + offset * half_y
            box = [
                (x - half_x, bar),
                (x + half_x, bar),
                (x + half_x, bar + 0.6 * half_y),
                (x - half_x, bar + 0.6 * half_y),
            ]
            painter.polygon(box, Paint(person.second_colour), shaded=False)


def _legs(painter: Painter, person: Person, view: View, body: Skeleton) -> None:
    """Paint legs, shoes and the lower garment, the farther leg first."""
    bare = person.lower in ("shorts", "skirt") or person.upper == "dress"
    width = {"leggings": 0.84, "trousers": 1.06}.get(person.lower, 1.0) * person.build**0.7
    for limbs in sorted((body.left, body.right), key=lambda item: view.depth(item.ankle)):
        cloth = Paint(person.skin if bare else person.lower_colour)
        _leg(painter, person, view, limbs, cloth, width * (0.84 if bare else 1.0))
        if person.lower == "shorts" and person.upper != "dress":
            hip, knee = view.project(limbs.hip), view.project(limbs.knee)
            end = (hip[0] + 0.86 * (knee[0] - hip[0]), hip[1] + 0.86 * (knee[1] - hip[1]))
            paint = Paint(person.lower_colour)
            painter.limb(hip, end, 0.066 * width * view.scale, 0.062 * width * view.scale, paint)
    pelvis = [
        (body.waist, 0.9 * body.half_hip, 0.86 * body.half_depth),
        (body.hip, 1.02 * body.half_hip, body.half_depth),
        (body.hip - 0.045, 0.9 * body.half_hip, 0.85 * body.half_depth),
    ]
    if person.lower == "skirt" and person.upper != "dress":
        pelvis[-1] = (body.hip - 0.15, 1.32 * body.half_hip, 1.5 * body.half_depth)
    painter.loft(_loft(view, pelvis), Paint(person.lower_colour))


def _leg(painter: Painter, person: Person, view: View, limbs: Limbs, cloth: Paint, width: float) -> None:
    """Paint one leg and its shoe."""
    unit = view.scale * width
    hip, knee, ankle, toe = (view.project(p) for p in (limbs.hip, limbs.knee, limbs.ankle, limbs.toe))
    loose = 1.18 if person.lower == "trousers" else 0.94
    low = mix(person.shoe_colour, (20, 20, 20), 0.1)
    painter.limb(ankle, toe, 0.026 * view.scale, 0.021 * view.scale, Paint(low))
    if person.shoe == "sneaker":
        sole = [(ankle[0], ankle[1] + 0.022 * view.scale), (toe[0], toe[1] + 0.016 * view.scale)]
        painter.line(sole, (226, 226, 222), 0.013 * view.scale)
    painter.limb(knee, ankle, 0.044 * unit, 0.029 * unit * loose, cloth)
    painter.limb(hip, knee, 0.06 * unit, 0.046 * unit, cloth)
    if cloth.colour == person.lower_colour and person.lower_trim != "none":
        if person.lower_trim == "stripe":
            side = math.copysign(0.7, view.facing * limbs.hip[0]) * abs(view.facing)
            shift = side * 0.04 * unit
            seam = [(p[0] + shift, p[1]) for p in (hip, knee, ankle)]
            painter.line(seam, person.second_colour, 0.016 * view.scale)
        else:
            middle = ((hip[0] + knee[0]) / 2, (hip[1] + knee[1]) / 2)
            painter.ellipse(
                middle, 0.03 * unit, 0.075 * unit, mix(person.lower_colour, (225, 225, 225), 0.32), False
            )
    if person.shoe == "boot":
        top = (ankle[0] + 0.45 * (knee[0] - ankle[0]), ankle[1] + 0.45 * (knee[1] - ankle[1]))
        painter.limb(top, ankle, 0.037 * view.scale, 0.031 * view.scale, Paint(person.shoe_colour))


def _arm(painter: Painter, person: Person, view: View, limbs: Limbs, sleeve: Paint) -> None:
    """Paint one arm with its sleeve."""
    unit = view.scale * person.build**0.6 * (1.14 if person.long_sleeves else 1.0)
    shoulder, elbow, hand = (view.project(p) for p in (limbs.shoulder, limbs.elbow, limbs.hand))
    skin = Paint(person.skin)
    painter.ellipse(hand, 0.024 * view.scale, 0.028 * view.scale, person.skin)
    lower = sleeve if person.long_sleeves else skin
    painter.limb(elbow, hand, 0.029 * unit, 0.022 * unit, lower)
    if person.long_sleeves:
        painter.limb(shoulder, elbow, 0.041 * unit, 0.032 * unit, sleeve)
        tip = (hand[0] + 0.22 * (hand[0] - elbow[0]), hand[1] + 0.22 * (hand[1] - elbow[1]))
        painter.ellipse(tip, 0.021 * view.scale, 0.023 * view.scale, person.skin)
        return
    painter.limb(shoulder, elbow, 0.036 * unit, 0.029 * unit, skin)
    if person.upper != "vest":
        end = (shoulder[0] + 0.62 * (elbow[0] - shoulder[0]), shoulder[1] + 0.62 * (elbow[1] - shoulder[1]))
        painter.limb(shoulder, end, 0.043 * unit, 0.04 * unit, sleeve)


def _long_hair(painter: Painter, person: Person, view: View, body: Skeleton) -> None:
    """Paint hair that falls on the back, or the tail of it."""
    back = -0.05
    top = view.project((0.0, body.crown - 0.05, back))
    if person.hair == "long":
        half = view.breadth(0.066, 0.05) * view.scale
        end = view.project((0.0, body.shoulder - 0.075, back - 0.015))
        painter.loft(
            [(top, 0.9 * half), (view.project((0.0, body.chin, back)), 1.1 * half), (end, 0.9 * half)],
            Paint(person.hair_colour),
        )
    else:
        knot = view.project((0.0, body.crown - 0.035, back - 0.02))
        end = view.project((0.0, body.shoulder - 0.01, back - 0.06))
        painter.limb(knot, end, 0.026 * view.scale, 0.014 * view.scale, Paint(person.hair_colour))
