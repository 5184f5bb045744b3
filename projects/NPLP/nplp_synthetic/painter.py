"""Shapes painted on a picture together with their shading."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from nplp_synthetic.body import Point2
from nplp_synthetic.wardrobe import Colour

__all__ = ["NEUTRAL", "Paint", "Painter", "mix", "rgb"]

# The value of the shading picture that leaves a colour as it is.
NEUTRAL = 128
_EDGE = 100
_CORE = 138


def rgb(colour: Colour, factor: float = 1.0) -> tuple[int, int, int]:
    """Return a colour as three integers in [0, 255], made lighter or darker by a factor."""
    red, green, blue = (min(255, max(0, round(c * factor))) for c in colour)
    return red, green, blue


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Return the mixture of two colours with ``share`` of the second."""
    red, green, blue = (a + (b - a) * share for a, b in zip(first, second, strict=True))
    return red, green, blue


@dataclass(frozen=True)
class Paint:
    """What a shape is filled with: a colour or, where given, a picture of the canvas's own size."""

    colour: Colour
    texture: Image.Image | None = None


class Painter:
    """Draws shapes on ``canvas`` and their roundness on ``shade``, both in pixels of the canvas.

    Args:
        canvas: RGB picture, changed in place.
        light: Direction the light comes from, -1 left to 1 right.
    """

    def __init__(self, canvas: Image.Image, light: float = 0.0) -> None:
        self.canvas = canvas
        self.shade = Image.new("L", canvas.size, NEUTRAL)
        self._draw = ImageDraw.Draw(canvas)
        self._shade = ImageDraw.Draw(self.shade)
        self._light = light

    def polygon(self, points: Sequence[Point2], paint: Paint, shaded: bool = True) -> None:
        """Fill a polygon; ``shaded`` clears the shading of what lies below it."""
        if paint.texture is None:
            self._draw.polygon(points, fill=rgb(paint.colour))
        else:
            self._stencil(points, None, paint.texture)
        if shaded:
            self._shade.polygon(points, fill=NEUTRAL)

    def ellipse(
        self, centre: Point2, half_x: float, half_y: float, colour: Colour, shaded: bool = True
    ) -> None:
        """Fill an ellipse with the given half axes in pixels."""
        x, y = centre
        self._draw.ellipse((x - half_x, y - half_y, x + half_x, y + half_y), fill=rgb(colour))
        if shaded:
            self._shade.ellipse((x - half_x, y - half_y, x + half_x, y + half_y), fill=_EDGE)
            shift = 0.2 * half_x * self._light
            core = (x - 0.72 * half_x + shift, y - 0.78 * half_y, x + 0.72 * half_x + shift, y + 0.7 * half_y)
            self._shade.ellipse(core, fill=_CORE)

    def limb(
        self,
        start: Point2,
        end: Point2,
        half_start: float,
        half_end: float,
        paint: Paint,
        flat_end: bool = False,
    ) -> None:
        """Fill a tapered limb with round ends, or a sleeve with a flat one; half widths in pixels."""
        outline = _capsule(start, end, half_start, half_end)
        discs = [(start, half_start)] if flat_end else [(start, half_start), (end, half_end)]
        if paint.texture is None:
            fill = rgb(paint.colour)
            self._draw.polygon(outline, fill=fill)
            for (x, y), half in discs:
                self._draw.ellipse((x - half, y - half, x + half, y + half), fill=fill)
        else:
            self._stencil(outline, discs, paint.texture)
        shift = 0.25 * self._light
        for width, level, offset in ((1.0, _EDGE, 0.0), (0.6, _CORE, shift)):
            first = (start[0] + offset * half_start, start[1])
            last = (end[0] + offset * half_end, end[1])
            self._shade.polygon(_capsule(first, last, half_start * width, half_end * width), fill=level)

    def loft(self, stations: Sequence[tuple[Point2, float]], paint: Paint) -> None:
        """Fill a body of the given (centre, half width) stations from top to bottom, in pixels."""
        self.polygon(_outline(stations, 1.0, 0.0), paint, shaded=False)
        self._shade.polygon(_outline(stations, 1.0, 0.0), fill=_EDGE)
        self._shade.polygon(_outline(stations, 0.86, 0.06 * self._light), fill=114)
        self._shade.polygon(_outline(stations, 0.66, 0.16 * self._light), fill=_CORE)

    def line(self, points: Sequence[Point2], colour: Colour, width: float) -> None:
        """Draw an unshaded line of the given width in pixels."""
        self._draw.line(points, fill=rgb(colour), width=max(1, round(width)), joint="curve")

    def crease(self, points: Sequence[Point2], level: int, width: float) -> None:
        """Draw a line on the shading only; below ``NEUTRAL`` it darkens."""
        self._shade.line(points, fill=level, width=max(1, round(width)))

    def _stencil(
        self, points: Sequence[Point2], discs: Sequence[tuple[Point2, float]] | None, texture: Image.Image
    ) -> None:
        """Paste the texture where the polygon and discs are."""
        xs = [x for x, _ in points] + [x + s * r for (x, _), r in discs or () for s in (-1, 1)]
        ys = [y for _, y in points] + [y + s * r for (_, y), r in discs or () for s in (-1, 1)]
        left, top = max(0, math.floor(min(xs))), max(0, math.floor(min(ys)))
        right = min(self.canvas.width, math.ceil(max(xs)) + 1)
        bottom = min(self.canvas.height, math.ceil(max(ys)) + 1)
        if right <= left or bottom <= top:
            return
        mask = Image.new("L", (right - left, bottom - top), 0)
        pen = ImageDraw.Draw(mask)
        pen.polygon([(x - left, y - top) for x, y in points], fill=255)
        for (x, y), r in discs or ():
            pen.ellipse((x - r - left, y - r - top, x + r - left, y + r - top), fill=255)
        self.canvas.paste(texture.crop((left, top, right, bottom)), (left, top), mask)


def _capsule(start: Point2, end: Point2, half_start: float, half_end: float) -> list[Point2]:
    """Return the four corners of a tapered bar."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = math.hypot(dx, dy) or 1.0
    nx, ny = -dy / length, dx / length
    return [
        (start[0] + nx * half_start, start[1] + ny * half_start),
        (end[0] + nx * half_end, end[1] + ny * half_end),
        (end[0] - nx * half_end, end[1] - ny * half_end),
        (start[0] - nx * half_start, start[1] - ny * half_start),
    ]


def _outline(stations: Sequence[tuple[Point2, float]], width: float, shift: float) -> list[Point2]:
    """Return the polygon around the stations, narrowed by ``width`` and moved by ``shift`` half widths."""
    right = [(x + half * (shift + width), y) for (x, y), half in stations]
    left = [(x + half * (shift - width), y) for (x, y), half in reversed(stations)]
    return right + left
