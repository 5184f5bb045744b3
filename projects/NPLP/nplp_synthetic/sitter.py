"""Somebody being painted: the person, the pose, the view and the canvas together."""

from __future__ import annotations

from dataclasses import dataclass

from nplp_synthetic.body import Point2, Skeleton, View
from nplp_synthetic.painter import Painter
from nplp_synthetic.person import Person

__all__ = ["Sitter"]


@dataclass(frozen=True)
class Sitter:
    """A person in front of the painter.

    Attributes:
        painter: Where to paint.
        person: Whom.
        view: How the camera sees the person.
        body: The joints at this moment.
    """

    painter: Painter
    person: Person
    view: View
    body: Skeleton

    def at(self, x: float, y: float, z: float) -> Point2:
        """Return the pixel of a point of the body."""
        return self.view.project((x, y, z))

    def px(self, units: float) -> float:
        """Return a length of the body in pixels."""
        return units * self.view.scale

    def rings(self, rings: list[tuple[float, float, float]]) -> list[tuple[Point2, float]]:
        """Project rings (height, lateral half axis, half depth) around the body to stations of a loft."""
        return [
            (self.at(0.0, y, 0.0), self.px(self.view.breadth(lateral, depth)) * self.view.zoom(y))
            for y, lateral, depth in rings
        ]
