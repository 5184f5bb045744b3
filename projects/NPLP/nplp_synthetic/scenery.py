"""What every scene is built from: boxes, paved floors and far pedestrians."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import ImageDraw

from nplp_synthetic.painter import mix, rgb
from nplp_synthetic.wardrobe import COLOURS, Colour

__all__ = ["Scenery"]

_GREY = (128.0, 128.0, 128.0)
_FACE = (176.0, 136.0, 112.0)


@dataclass(frozen=True)
class Scenery:
    """A scene under construction; lengths are in heights of the scene unless they say pixels.

    Attributes:
        pen: Draws on the scene.
        rng: Draws everything random about it.
        width: Width in pixels.
        height: Height in pixels.
        ground: Pixel row where wall and floor meet.
    """

    pen: ImageDraw.ImageDraw
    rng: np.random.Generator
    width: int
    height: int
    ground: int

    def between(self, low: float, high: float) -> float:
        """Draw a number from a range."""
        return float(self.rng.uniform(low, high))

    def tone(self, *names: str) -> Colour:
        """Draw one of the named colours, more or less greyed."""
        colour = COLOURS[names[int(self.rng.integers(len(names)))]]
        return mix(colour, _GREY, self.between(0.1, 0.45))

    def row(self, step: float, start: float = 0.0, stop: float | None = None) -> list[float]:
        """Return pixels from ``start`` to ``stop``, by default the scene's width, ``step`` heights apart."""
        end = self.width if stop is None else stop
        return [float(x) for x in np.arange(start, end, max(2.0, step * self.height))]

    def box(self, left: float, top: float, width: float, height: float, colour: Colour) -> None:
        """Fill a rectangle: its corner in pixels, its size in heights."""
        right, bottom = left + max(1.0, width * self.height), top + max(1.0, height * self.height)
        self.pen.rectangle((left, top, right, bottom), fill=rgb(colour))

    def band(self, top: float, height: float, colour: Colour) -> None:
        """Fill a band across the scene: its top in pixels, its height in heights."""
        self.pen.rectangle((0, top, self.width, top + max(1.0, height * self.height)), fill=rgb(colour))

    def above_ground(self, height: float) -> float:
        """Return the pixel row that is ``height`` above the ground line."""
        return self.ground - height * self.height

    def wall(self, colour: Colour) -> None:
        """Fill everything above the ground line."""
        self.pen.rectangle((0, 0, self.width, self.ground), fill=rgb(colour))

    def floor(self, colour: Colour) -> None:
        """Pave the ground: lines that lean and rows that widen towards the viewer."""
        pen, rows = self.pen, self.height - self.ground
        pen.rectangle((0, self.ground, self.width, self.height), fill=rgb(colour))
        joint = rgb(colour, float(self.rng.choice((0.78, 0.86, 1.12))))
        line = max(1, round(self.height / 160))
        y, step = float(self.ground), 0.02 * self.height
        while y < self.height:
            pen.line((0, y, self.width, y), fill=joint, width=line)
            step *= 1.3
            y += step
        spacing, lean = self.between(0.16, 0.3), self.between(-0.8, 0.8)
        for x in self.row(spacing, -self.height, self.width + self.height):
            pen.line((x, self.ground, x + lean * rows, self.height), fill=joint, width=line)

    def passers(self) -> None:
        """Place a few small, far pedestrians on the ground line."""
        for x in self.rng.uniform(0, self.width, int(self.rng.integers(2, 6))).tolist():
            tall = self.between(0.14, 0.24)
            top, half = self.above_ground(0.62 * tall), 0.13 * tall
            head = 0.45 * half * self.height
            self.pen.ellipse((x - head, top - 0.2 * tall * self.height, x + head, top), fill=rgb(_FACE))
            left = x - half * self.height
            self.box(left, top, 2 * half, 0.42 * tall, self.tone("white", "red", "navy", "grey", "yellow"))
            legs = top + 0.4 * tall * self.height
            self.box(
                left + 0.2 * half * self.height,
                legs,
                1.6 * half,
                0.44 * tall,
                self.tone("black", "denim", "beige"),
            )
