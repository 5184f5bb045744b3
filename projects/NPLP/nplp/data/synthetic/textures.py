"""Patterns of cloth, drawn over the whole canvas and cut out by the garment's shape."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from nplp.data.synthetic.body import Point2
from nplp.data.synthetic.painter import mix, rgb
from nplp.data.synthetic.wardrobe import Colour

__all__ = ["pattern_texture"]


def pattern_texture(
    size: tuple[int, int],
    pattern: str,
    first: Colour,
    second: Colour,
    unit: float,
    origin: Point2,
    reach: float,
) -> Image.Image | None:
    """Return a canvas-sized picture of a pattern, or None for patterns that are a plain colour.

    Args:
        size: Width and height of the canvas in pixels.
        pattern: ``stripes``, ``checks``, ``dots``, ``block``, ``sash`` or ``quilt``; others are plain.
        first: Ground colour, 0-255 RGB.
        second: Colour of the pattern, 0-255 RGB.
        unit: Width of a stripe or check in pixels.
        origin: Pixel that the pattern moves with, the middle between the shoulders.
        reach: Distance in pixels from the shoulders to the garment's middle, where a block changes.

    Returns:
        An RGB picture or None.
    """
    painters = {
        "stripes": _stripes,
        "checks": _checks,
        "dots": _dots,
        "block": _block,
        "sash": _sash,
        "quilt": _quilt,
    }
    if pattern not in painters:
        return None
    texture = Image.new("RGB", size, rgb(first))
    painters[pattern](ImageDraw.Draw(texture), size, first, second, max(unit, 2.0), origin, reach)
    return texture


def _steps(start: float, stop: float, step: float) -> list[float]:
    """Return start, start + step, ... moved to begin just before 0, up to ``stop``."""
    first = start % step - step
    return [float(v) for v in np.arange(first, stop, step)]


def _stripes(
    pen: ImageDraw.ImageDraw,
    size: tuple[int, int],
    first: Colour,
    second: Colour,
    unit: float,
    origin: Point2,
    reach: float,
) -> None:
    """Horizontal bands of both colours."""
    del first, reach
    for y in _steps(origin[1], size[1], 2 * unit):
        pen.rectangle((0, y, size[0], y + unit - 1), fill=rgb(second))


def _checks(
    pen: ImageDraw.ImageDraw,
    size: tuple[int, int],
    first: Colour,
    second: Colour,
    unit: float,
    origin: Point2,
    reach: float,
) -> None:
    """A plaid: bands both ways, of the second colour where they cross and half of it elsewhere."""
    del reach
    half = rgb(mix(first, second, 0.5))
    columns = _steps(origin[0], size[0], 2 * unit)
    rows = _steps(origin[1], size[1], 2 * unit)
    for x in columns:
        pen.rectangle((x, 0, x + unit - 1, size[1]), fill=half)
    for y in rows:
        pen.rectangle((0, y, size[0], y + unit - 1), fill=half)
        for x in columns:
            pen.rectangle((x, y, x + unit - 1, y + unit - 1), fill=rgb(second))


def _dots(
    pen: ImageDraw.ImageDraw,
    size: tuple[int, int],
    first: Colour,
    second: Colour,
    unit: float,
    origin: Point2,
    reach: float,
) -> None:
    """Dots in a staggered grid."""
    del first, reach
    radius = 0.5 * unit
    for row, y in enumerate(_steps(origin[1], size[1], 1.6 * unit)):
        for x in _steps(origin[0] + (row % 2) * unit, size[0], 2 * unit):
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=rgb(second))


def _block(
    pen: ImageDraw.ImageDraw,
    size: tuple[int, int],
    first: Colour,
    second: Colour,
    unit: float,
    origin: Point2,
    reach: float,
) -> None:
    """The second colour below the chest."""
    del first, unit
    pen.rectangle((0, origin[1] + reach, size[0], size[1]), fill=rgb(second))


def _sash(
    pen: ImageDraw.ImageDraw,
    size: tuple[int, int],
    first: Colour,
    second: Colour,
    unit: float,
    origin: Point2,
    reach: float,
) -> None:
    """One broad band across the chest."""
    del first
    y = origin[1] + 0.6 * reach
    pen.rectangle((0, y, size[0], y + 2 * unit), fill=rgb(second))


def _quilt(
    pen: ImageDraw.ImageDraw,
    size: tuple[int, int],
    first: Colour,
    second: Colour,
    unit: float,
    origin: Point2,
    reach: float,
) -> None:
    """The seams of a padded jacket."""
    del second, reach
    for y in _steps(origin[1], size[1], 1.4 * unit):
        pen.line((0, y, size[0], y), fill=rgb(first, 0.62), width=max(1, round(0.22 * unit)))
        pen.line(
            (0, y + 0.4 * unit, size[0], y + 0.4 * unit),
            fill=rgb(first, 1.12),
            width=max(1, round(0.3 * unit)),
        )
