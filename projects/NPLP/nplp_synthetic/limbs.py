"""Arms, legs, shoes and what is worn on them."""

from __future__ import annotations

import math

from nplp_synthetic.body import Limbs, Point2
from nplp_synthetic.painter import Paint, mix
from nplp_synthetic.sitter import Sitter

__all__ = ["paint_arm", "paint_ground_shadow", "paint_legs"]

_SOLE = (226.0, 226.0, 222.0)
_WORN = (225.0, 225.0, 225.0)
_DIRT = (20.0, 20.0, 20.0)


def paint_ground_shadow(sitter: Sitter) -> None:
    """Darken the ground around the feet."""
    x, y = sitter.at(0.0, 0.0, 0.0)
    half = sitter.px(1.5 * sitter.body.half_hip)
    for factor, level in ((1.5, 116), (1.0, 96)):
        sitter.painter.crease(
            [(x - factor * half, y), (x + factor * half, y)], level, sitter.px(0.035 / factor)
        )


def paint_legs(sitter: Sitter) -> None:
    """Paint legs, shoes and the lower garment, the farther leg first."""
    person, body = sitter.person, sitter.body
    dress = person.upper == "dress"
    bare = dress or person.lower in ("shorts", "skirt")
    width = {"leggings": 0.84, "trousers": 1.06}.get(person.lower, 1.0) * person.build**0.7
    cloth = Paint(person.skin if bare else person.lower_colour)
    for limbs in sorted((body.left, body.right), key=lambda item: sitter.view.depth(item.ankle)):
        _paint_leg(sitter, limbs, cloth, width * (0.84 if bare else 1.0))
        if person.lower == "shorts" and not dress:
            hip, knee = sitter.view.project(limbs.hip), sitter.view.project(limbs.knee)
            leg = (hip, _along(hip, knee, 0.82))
            shorts = Paint(person.lower_colour)
            sitter.painter.limb(
                *leg, sitter.px(0.062 * width), sitter.px(0.064 * width), shorts, flat_end=True
            )
    depth = body.half_depth
    pelvis = [
        (body.waist, 0.9 * body.half_hip, 0.86 * depth),
        (body.hip, 1.02 * body.half_hip, depth),
        (body.hip - 0.045, 0.9 * body.half_hip, 0.85 * depth),
    ]
    if person.lower == "skirt" and not dress:
        pelvis[-1] = (body.hip - 0.15, 1.32 * body.half_hip, 1.5 * depth)
    sitter.painter.loft(sitter.rings(pelvis), Paint(person.lower_colour))


def paint_arm(sitter: Sitter, limbs: Limbs, sleeve: Paint) -> None:
    """Paint one arm with its sleeve.

    Args:
        sitter: Whose.
        limbs: Its side of the body.
        sleeve: What the sleeve is filled with.
    """
    person, painter = sitter.person, sitter.painter
    unit = sitter.view.scale * person.build**0.6 * (1.1 if person.long_sleeves else 1.0)
    shoulder, elbow, hand = (sitter.view.project(p) for p in (limbs.shoulder, limbs.elbow, limbs.hand))
    skin = Paint(person.skin)
    painter.ellipse(_along(elbow, hand, 1.16), sitter.px(0.023), sitter.px(0.027), person.skin)
    if person.long_sleeves:
        painter.limb(elbow, hand, 0.03 * unit, 0.025 * unit, sleeve, flat_end=True)
        painter.limb(shoulder, elbow, 0.036 * unit, 0.031 * unit, sleeve)
        return
    painter.limb(elbow, hand, 0.026 * unit, 0.02 * unit, skin)
    painter.limb(shoulder, elbow, 0.032 * unit, 0.027 * unit, skin)
    if person.upper != "vest":
        cuff = _along(shoulder, elbow, 0.72)
        painter.limb(shoulder, cuff, 0.036 * unit, 0.04 * unit, sleeve, flat_end=True)


def _along(start: Point2, end: Point2, share: float) -> Point2:
    """Return the point at a share of the way from ``start`` to ``end``."""
    return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])


def _paint_leg(sitter: Sitter, limbs: Limbs, cloth: Paint, width: float) -> None:
    """Paint one leg and its shoe."""
    person, painter = sitter.person, sitter.painter
    unit = sitter.view.scale * width
    hip, knee, ankle, toe = (sitter.view.project(p) for p in (limbs.hip, limbs.knee, limbs.ankle, limbs.toe))
    shoe = Paint(mix(person.shoe_colour, _DIRT, 0.1))
    painter.limb(ankle, toe, sitter.px(0.026), sitter.px(0.021), shoe)
    if person.shoe == "sneaker":
        sole = [(ankle[0], ankle[1] + sitter.px(0.022)), (toe[0], toe[1] + sitter.px(0.016))]
        painter.line(sole, _SOLE, sitter.px(0.013))
    trousers = person.lower == "trousers" and cloth.colour == person.lower_colour
    painter.limb(knee, ankle, 0.044 * unit, (0.036 if trousers else 0.027) * unit, cloth, flat_end=trousers)
    painter.limb(hip, knee, 0.06 * unit, 0.046 * unit, cloth)
    if cloth.colour == person.lower_colour:
        _paint_trim(sitter, limbs, unit)
    if person.shoe == "boot":
        top = _along(ankle, knee, 0.45)
        boot = Paint(person.shoe_colour)
        painter.limb(ankle, top, sitter.px(0.031), sitter.px(0.036), boot, flat_end=True)


def _paint_trim(sitter: Sitter, limbs: Limbs, unit: float) -> None:
    """Paint a stripe along the seam or a faded thigh."""
    person, painter, facing = sitter.person, sitter.painter, sitter.view.facing
    hip, knee, ankle = (sitter.view.project(p) for p in (limbs.hip, limbs.knee, limbs.ankle))
    if person.lower_trim == "stripe":
        shift = math.copysign(0.028 * unit, facing * limbs.hip[0]) * abs(facing)
        seam = [(x + shift, y) for x, y in (hip, knee, ankle)]
        painter.line(seam, person.second_colour, sitter.px(0.016))
    elif person.lower_trim == "fade":
        worn = mix(person.lower_colour, _WORN, 0.3)
        painter.ellipse(_along(hip, knee, 0.5), 0.03 * unit, 0.075 * unit, worn, shaded=False)
