"""A dressed person, painted from the back to the front."""

from __future__ import annotations

from dataclasses import dataclass

from nplp_synthetic.bags import paint_backpack, paint_carried, paint_straps
from nplp_synthetic.body import View, skeleton
from nplp_synthetic.garments import paint_torso, upper_paints
from nplp_synthetic.head import paint_hair_fall, paint_head
from nplp_synthetic.limbs import paint_arm, paint_ground_shadow, paint_legs
from nplp_synthetic.painter import Painter
from nplp_synthetic.person import Person
from nplp_synthetic.sitter import Sitter

__all__ = ["Pose", "paint_person"]

# An arm whose shoulder is this far behind the body's axis, in units, is hidden by the torso.
_FAR_ARM = -0.04


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
    sitter = Sitter(painter, person, view, skeleton(person, pose.phase, pose.effort, pose.raised_arm))
    upper, sleeve = upper_paints(sitter)
    from_front = view.facing > 0
    arms = sorted((sitter.body.left, sitter.body.right), key=lambda limbs: view.depth(limbs.shoulder))
    hidden = [limbs for limbs in arms if view.depth(limbs.shoulder) < _FAR_ARM]

    paint_ground_shadow(sitter)
    if from_front:
        paint_backpack(sitter)
    for limbs in hidden:
        paint_arm(sitter, limbs, sleeve)
    if from_front:
        paint_hair_fall(sitter)
    paint_legs(sitter)
    paint_torso(sitter, upper)
    paint_straps(sitter)
    if not from_front:
        paint_backpack(sitter)
    paint_head(sitter)
    if not from_front:
        paint_hair_fall(sitter)
    for limbs in arms[len(hidden) :]:
        paint_arm(sitter, limbs, sleeve)
    paint_carried(sitter)
