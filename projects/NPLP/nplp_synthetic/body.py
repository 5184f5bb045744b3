"""The walking body and how a camera sees it.

Body coordinates: x to the person's left, y up, z forward; the ground is y = 0 and the stature about 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from nplp_synthetic.person import Person

__all__ = ["Limbs", "Skeleton", "View", "skeleton"]

Point3 = tuple[float, float, float]
Point2 = tuple[float, float]


@dataclass(frozen=True)
class View:
    """A camera's view of one person: a parallel projection with a slight taper.

    Attributes:
        yaw: Heading in radians: 0 towards the camera, pi / 2 to the right of the picture, pi away.
        pitch: Angle in radians by which the camera looks down.
        taper: Growth of what is higher, as seen by a camera above the head.
        scale: Pixels per unit.
        origin: Pixel of the point on the ground between the feet.
    """

    yaw: float
    pitch: float
    taper: float
    scale: float
    origin: Point2

    @property
    def facing(self) -> float:
        """1 where the person faces the camera, 0 in profile, -1 from behind."""
        return math.cos(self.yaw)

    @property
    def profile(self) -> float:
        """1 where the person walks to the right of the picture, -1 to its left."""
        return math.sin(self.yaw)

    def depth(self, point: Point3) -> float:
        """Return how much nearer to the camera a point is than the body's axis."""
        return point[2] * math.cos(self.yaw) - point[0] * math.sin(self.yaw)

    def zoom(self, y: float) -> float:
        """Return how much larger than on average the body appears at a height."""
        return 1 + self.taper * (y - 0.5)

    def project(self, point: Point3) -> Point2:
        """Return the pixel of a point of the body."""
        x, y, z = point
        across = x * math.cos(self.yaw) + z * math.sin(self.yaw)
        up = y * math.cos(self.pitch) - self.depth(point) * math.sin(self.pitch)
        return self.origin[0] + across * self.scale * self.zoom(y), self.origin[1] - up * self.scale

    def breadth(self, lateral: float, depth: float) -> float:
        """Return half the apparent width, in units, of an ellipse with these half axes."""
        return math.hypot(lateral * math.cos(self.yaw), depth * math.sin(self.yaw))


@dataclass(frozen=True)
class Limbs:
    """The joints of one side of the body, in body coordinates."""

    hip: Point3
    knee: Point3
    ankle: Point3
    toe: Point3
    shoulder: Point3
    elbow: Point3
    hand: Point3


@dataclass(frozen=True)
class Skeleton:
    """The joints of a walking body.

    Attributes:
        left: The person's left side.
        right: The person's right side.
        hip: Height of the hips.
        waist: Height of the waist.
        shoulder: Height of the shoulders.
        chin: Height of the chin.
        crown: Height of the top of the head.
        half_shoulder: Half the distance between the shoulders.
        half_hip: Half the breadth of the hips.
        half_depth: Half the depth of the chest.
    """

    left: Limbs
    right: Limbs
    hip: float
    waist: float
    shoulder: float
    chin: float
    crown: float
    half_shoulder: float
    half_hip: float
    half_depth: float


def skeleton(person: Person, phase: float, effort: float, raised_arm: float = 0.0) -> Skeleton:
    """Return the joints of a person at a moment of the walk.

    Args:
        person: Whose body.
        phase: Phase of the walk in radians; 2 pi is two steps.
        effort: Share of the person's full step, 0 standing.
        raised_arm: Angle in radians by which the right forearm is raised, as with a phone.

    Returns:
        The skeleton, its lower foot on the ground.
    """
    hip = 0.5 * person.legs
    swing = person.stride * effort
    half_hip = 0.086 * person.build
    half_shoulder = 0.112 * person.build**0.7 * person.shoulders
    left_leg = _leg(half_hip * 0.52, hip, swing, phase)
    right_leg = _leg(-half_hip * 0.52, hip, swing, phase + math.pi)
    sink = min(left_leg[2][1], right_leg[2][1]) - 0.036
    shoulder = hip + 0.315 - sink
    sides = []
    for sign, leg, lift in ((1.0, left_leg, 0.0), (-1.0, right_leg, raised_arm)):
        arm_phase = phase + (math.pi if sign > 0 else 0.0)
        arm = _arm(sign, half_shoulder, shoulder, swing, arm_phase, lift)
        lowered = [(x, y - sink, z) for x, y, z in leg]
        sides.append(Limbs(*lowered, *arm))
    chin = shoulder + 0.052
    return Skeleton(
        left=sides[0],
        right=sides[1],
        hip=hip - sink,
        waist=hip + 0.105 - sink,
        shoulder=shoulder,
        chin=chin,
        crown=chin + 0.128 * person.head,
        half_shoulder=half_shoulder,
        half_hip=half_hip,
        half_depth=0.066 * person.build,
    )


def _leg(x: float, hip: float, swing: float, phase: float) -> list[Point3]:
    """Return hip, knee, ankle and toe of a leg, before the body sinks to the ground."""
    forward = swing * math.sin(phase)
    bend = 0.04 + 1.1 * swing * max(0.0, math.cos(phase))
    thigh, shin = 0.48 * hip, 0.46 * hip
    knee = (x, hip - thigh * math.cos(forward), thigh * math.sin(forward))
    lower = forward - bend
    ankle = (x, knee[1] - shin * math.cos(lower), knee[2] + shin * math.sin(lower))
    lift = 0.5 * bend
    toe = (x * 1.25, ankle[1] - 0.022 - 0.05 * lift, ankle[2] + 0.078)
    return [(x, hip, 0.0), knee, ankle, toe]


def _arm(sign: float, half: float, height: float, swing: float, phase: float, lift: float) -> list[Point3]:
    """Return shoulder, elbow and hand of an arm; ``sign`` is 1 on the left and -1 on the right."""
    forward = 0.85 * swing * math.sin(phase) + 0.03 + 0.35 * lift
    lower = forward + 0.16 + 0.4 * swing + lift
    shoulder = (sign * 0.97 * half, height - 0.03, 0.0)
    elbow = (shoulder[0] + sign * 0.022, shoulder[1] - 0.162 * math.cos(forward), 0.162 * math.sin(forward))
    hand = (
        elbow[0] - sign * 0.06 * min(1.0, lift),
        elbow[1] - 0.152 * math.cos(lower),
        elbow[2] + 0.152 * math.sin(lower),
    )
    return [shoulder, elbow, hand]
