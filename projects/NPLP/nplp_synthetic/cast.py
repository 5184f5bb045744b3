"""Who and what stands before the camera, and how the bounding box lies around it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nplp_synthetic.body import View
from nplp_synthetic.camera import Camera
from nplp_synthetic.figure import Pose, paint_person
from nplp_synthetic.images import DISTRACTOR, JUNK, Record
from nplp_synthetic.painter import Paint, Painter
from nplp_synthetic.person import person, stranger
from nplp_synthetic.spec import DomainSpec
from nplp_synthetic.wardrobe import COLOURS

__all__ = ["Cast"]

# Of the distractors, the share without anybody in the box.
_EMPTY_BOXES = 0.45
# A box drawn by hand fits this much better than a detector's.
_HAND_DRAWN = 0.4
_RIM = (210.0, 210.0, 206.0)


@dataclass(frozen=True)
class _Place:
    """Where a person stands in the box, in shares of its height and width.

    Attributes:
        fill: Height of the person.
        centre: Middle of the person, from the left.
        feet: Ground between the feet, from the top.
    """

    fill: float
    centre: float
    feet: float


@dataclass(frozen=True)
class Cast:
    """Paints the people and objects of one image.

    Attributes:
        spec: The domain.
        painter: Where to paint, over the background.
        camera: The camera that sees them.
        rng: Draws everything that varies from image to image.
    """

    spec: DomainSpec
    painter: Painter
    camera: Camera
    rng: np.random.Generator

    def subject(self, record: Record, yaw: float, pose: Pose) -> None:
        """Paint whom the box was put around: nobody in some of the distractors.

        Args:
            record: Which image.
            yaw: Heading of the person in radians.
            pose: What the person is doing.
        """
        if record.identity == DISTRACTOR:
            if self.rng.random() < _EMPTY_BOXES:
                return
            who = stranger(self.spec, self.rng)
            place = self._part_of_a_person()
        elif record.identity == JUNK:
            number = int(self.rng.integers(self.spec.test_identities))
            who = person(self.spec, self.spec.train_identities + 1 + number)
            place = self._bad_box()
        else:
            who = person(self.spec, record.identity)
            place = self._detector_box(1.0 if record.box else _HAND_DRAWN)
        paint_person(self.painter, who, self._view(yaw, place), pose)

    def bystander_behind(self) -> None:
        """Paint somebody else, smaller and beside the person."""
        fill = self._between(0.55, 0.85)
        self._bystander(_Place(fill, 0.5 + self._side() * self._between(0.25, 0.5), 0.65 + 0.3 * fill))

    def occlude(self) -> None:
        """Put a pole, a low object or somebody else before the person."""
        width, height = self.painter.canvas.size
        kind = int(self.rng.integers(3))
        name = str(self.rng.choice(("grey", "charcoal", "olive", "brown", "silver", "burgundy")))
        x = width * self._between(0.1, 0.9)
        if kind == 0:
            half = width * self._between(0.04, 0.09)
            self.painter.loft([((x, -4.0), half), ((x, height + 4.0), half)], Paint(COLOURS[name]))
        elif kind == 1:
            top, half = height * self._between(0.62, 0.82), width * self._between(0.3, 0.6)
            self.painter.loft([((x, top), half), ((x, height + 4.0), half)], Paint(COLOURS[name]))
            self.painter.line([(x - half, top), (x + half, top)], _RIM, 0.012 * height)
        else:
            centre = 0.5 + self._side() * self._between(0.42, 0.56)
            self._bystander(_Place(self._between(0.95, 1.15), centre, 1.05))

    def _between(self, low: float, high: float) -> float:
        """Draw a number from a range."""
        return float(self.rng.uniform(low, high))

    def _side(self) -> float:
        """Draw left, -1, or right, 1."""
        return float(self.rng.choice((-1.0, 1.0)))

    def _bystander(self, place: _Place) -> None:
        """Paint somebody who is no identity of the domain."""
        pose = Pose(self._between(0, math.tau), self._between(0.2, 1.0))
        view = self._view(self._between(0, math.tau), place)
        paint_person(self.painter, stranger(self.spec, self.rng), view, pose)

    def _view(self, yaw: float, place: _Place) -> View:
        """Return the camera's view of somebody at a place in the box."""
        width, height = self.painter.canvas.size
        pitch = self.camera.pitch
        # A body of height 1 seen from above is this high in the picture.
        apparent = math.cos(pitch) + 0.12 * math.sin(pitch)
        scale = place.fill * height / apparent
        return View(yaw, pitch, self.camera.taper, scale, (place.centre * width, place.feet * height))

    def _detector_box(self, looseness: float) -> _Place:
        """Draw how a person stands in a box: off-centre, now and then cropped or too small."""
        jitter = self.spec.difficulty.box_jitter * looseness
        fill = 0.9 + 0.05 * jitter * float(self.rng.normal())
        feet = 0.95 + 0.022 * jitter * float(self.rng.normal())
        centre = 0.5 + 0.05 * jitter * float(self.rng.normal())
        fault = self.rng.random()
        if fault < 0.06 * jitter:
            fill, feet = 1.22 * fill, 1.14
        elif fault < 0.1 * jitter:
            fill, feet = 1.16 * fill, 0.97
        elif fault < 0.16 * jitter:
            fill, feet = 0.78 * fill, 0.86
        return _Place(fill, centre, feet)

    def _part_of_a_person(self) -> _Place:
        """Draw a box that a detector put around a part of somebody, at the box's edge."""
        edge = 0.5 + 0.52 * self._side() + 0.12 * float(self.rng.normal())
        return _Place(self._between(0.55, 2.2), edge, self._between(0.8, 1.9))

    def _bad_box(self) -> _Place:
        """Draw a box that overlaps a person by much less than half."""
        return _Place(self._between(1.2, 1.9), self._between(0.1, 0.9), self._between(1.0, 1.7))
