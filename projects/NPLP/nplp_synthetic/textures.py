"""Patterns of cloth, drawn over the whole canvas and cut out by the garment's shape."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from nplp_synthetic.body import Point2
from nplp_synthetic.painter import mix, rgb
from nplp_synthetic.wardrobe import Colour

__all__ = ["Cloth", "weave"]


@dataclass(frozen=True)
class Cloth:
    """A patterned cloth as it lies on a canvas.

    Attributes:
        size: Width and height of the canvas in pixels.
        first: Ground colour, 0-255 RGB.
        second: Colour of the pattern, 0-255 RGB.
        unit: Width of a stripe or check in pixels.
        origin: Pixel that the pattern moves with, the middle between the shoulders.
        reach: Distance in pixels from the shoulders to the garment's middle, where a block changes.
    """

    size: tuple[int, int]
    first: Colour
    second: Colour
    unit: float
    origin: Point2
    reach: float


def weave(pattern: str, cloth: Cloth) -> Image.Image | None:
    """Return a canvas-sized picture of a pattern, or None for patterns that are a plain colour.

    Args:
        pattern: ``stripes``, ``checks``, ``dots``, ``block``, ``sash`` or ``quilt``; others are plain.
        cloth: Its colours and measures.

    Returns:
        An RGB picture or None.
    """
    weavers = {
        "stripes": _stripes,
        "checks": _checks,
        "dots": _dots,
        "block": _block,
        "sash": _sash,
        "quilt": _quilt,
    }
    if pattern not in weavers:
        return None
    texture = Image.new("RGB", cloth.size, rgb(cloth.first))
    weavers[pattern](ImageDraw.Draw(texture), cloth)
    return texture


def _steps(origin: float, stop: float, step: float) -> list[float]:
    """Return ``origin`` plus multiples of ``step``, from just below 0 up to ``stop``."""
    step = max(2.0, step)
    return [float(v) for v in np.arange(origin % step - step, stop, step)]


def _stripes(pen: ImageDraw.ImageDraw, cloth: Cloth) -> None:
    """Horizontal bands of both colours."""
    width, height = cloth.size
    for y in _steps(cloth.origin[1], height, 2 * cloth.unit):
        pen.rectangle((0, y, width, y + cloth.unit - 1), fill=rgb(cloth.second))


def _checks(pen: ImageDraw.ImageDraw, cloth: Cloth) -> None:
    """A plaid: bands both ways, of the second colour where they cross and half of it elsewhere."""
    width, height = cloth.size
    band = cloth.unit - 1
    half = rgb(mix(cloth.first, cloth.second, 0.5))
    columns = _steps(cloth.origin[0], width, 2 * cloth.unit)
    for x in columns:
        pen.rectangle((x, 0, x + band, height), fill=half)
    for y in _steps(cloth.origin[1], height, 2 * cloth.unit):
        pen.rectangle((0, y, width, y + band), fill=half)
        for x in columns:
            pen.rectangle((x, y, x + band, y + band), fill=rgb(cloth.second))


def _dots(pen: ImageDraw.ImageDraw, cloth: Cloth) -> None:
    """Dots in a staggered grid."""
    radius = 0.5 * cloth.unit
    for row, y in enumerate(_steps(cloth.origin[1], cloth.size[1], 1.6 * cloth.unit)):
        for x in _steps(cloth.origin[0] + (row % 2) * cloth.unit, cloth.size[0], 2 * cloth.unit):
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=rgb(cloth.second))


def _block(pen: ImageDraw.ImageDraw, cloth: Cloth) -> None:
    """The second colour below the chest."""
    width, height = cloth.size
    pen.rectangle((0, min(cloth.origin[1] + cloth.reach, height), width, height), fill=rgb(cloth.second))


def _sash(pen: ImageDraw.ImageDraw, cloth: Cloth) -> None:
    """One broad band across the chest."""
    top = cloth.origin[1] + 0.6 * cloth.reach
    pen.rectangle((0, top, cloth.size[0], top + 2 * cloth.unit), fill=rgb(cloth.second))


def _quilt(pen: ImageDraw.ImageDraw, cloth: Cloth) -> None:
    """The seams of a padded jacket, each with a lit roll below it."""
    width, height = cloth.size
    for y in _steps(cloth.origin[1], height, 1.4 * cloth.unit):
        lit = y + 0.4 * cloth.unit
        pen.line((0, y, width, y), fill=rgb(cloth.first, 0.62), width=max(1, round(0.22 * cloth.unit)))
        pen.line((0, lit, width, lit), fill=rgb(cloth.first, 1.12), width=max(1, round(0.3 * cloth.unit)))
