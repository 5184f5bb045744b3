"""Backgrounds: one wide, structured scene for each camera, of which every image shows a part."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from nplp.data.synthetic.camera import camera_of
from nplp.data.synthetic.painter import mix, rgb
from nplp.data.synthetic.spec import DomainSpec, generator
from nplp.data.synthetic.wardrobe import COLOURS, Colour

__all__ = ["SCENE_WIDTHS", "backdrop"]

# Width of a scene in widths of an image.
SCENE_WIDTHS = 6

Scenery = Callable[[ImageDraw.ImageDraw, np.random.Generator, tuple[int, int], int], None]


@lru_cache(maxsize=64)
def backdrop(spec: DomainSpec, camera: int, size: tuple[int, int]) -> Image.Image:
    """Draw the scene of a camera.

    Args:
        spec: The domain.
        camera: Camera, from 1.
        size: Width and height in pixels of the canvas on which a person will be painted.

    Returns:
        An RGB picture, ``SCENE_WIDTHS`` as wide as the canvas and 1.2 times as high. It is shared and must
        not be changed.
    """
    rng = generator(spec, "scene", camera)
    wide = (size[0] * SCENE_WIDTHS, round(1.2 * size[1]))
    lens = camera_of(spec, camera)
    ground = round(wide[1] * (0.66 - 0.9 * lens.pitch + 0.05 * rng.uniform(-1, 1)))
    picture = Image.new("RGB", wide)
    sceneries = _SCENERIES[spec.name]
    order = generator(spec, "sceneries").permutation(len(sceneries))
    sceneries[int(order[(camera - 1) % len(sceneries)])](ImageDraw.Draw(picture), rng, wide, ground)
    picture = picture.filter(ImageFilter.GaussianBlur(size[1] / 160))
    pixels = np.asarray(picture, np.float32)
    pixels = pixels * _mottle(rng, wide, 0.05)[..., None]
    mean = pixels.mean(axis=(0, 1), keepdims=True)
    pixels = mean + (pixels - mean) * min(1.6, spec.difficulty.clutter)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _mottle(rng: np.random.Generator, size: tuple[int, int], strength: float) -> np.ndarray:
    """Return float32 factors around 1, [height, width]: large soft stains and a fine grain."""
    coarse = rng.integers(0, 256, (9, 33)).astype(np.uint8)
    soft = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), np.float32)
    grain = rng.standard_normal((size[1], size[0]), dtype=np.float32)
    return 1 + strength * ((soft - 128) / 64 + 0.5 * grain)


def _tone(rng: np.random.Generator, *names: str) -> Colour:
    """Draw one of the named colours in a random lightness."""
    colour = COLOURS[names[int(rng.integers(len(names)))]]
    return mix(colour, (128.0, 128.0, 128.0), float(rng.uniform(0.1, 0.45)))


def _box(
    pen: ImageDraw.ImageDraw, left: float, top: float, width: float, height: float, colour: Colour
) -> None:
    """Fill a rectangle."""
    pen.rectangle((left, top, left + max(1.0, width), top + max(1.0, height)), fill=rgb(colour))


def _floor(
    pen: ImageDraw.ImageDraw, rng: np.random.Generator, size: tuple[int, int], ground: int, colour: Colour
) -> None:
    """Lay a paved floor: lines that converge and rows that widen towards the viewer."""
    width, height = size
    _box(pen, 0, ground, width, height - ground, colour)
    joint = rgb(colour, float(rng.choice((0.78, 0.86, 1.12))))
    line = max(1, round(height / 160))
    y, step = float(ground), 0.02 * height
    while y < height:
        pen.line((0, y, width, y), fill=joint, width=line)
        step *= 1.3
        y += step
    spacing = height * float(rng.uniform(0.16, 0.3))
    lean = float(rng.uniform(-0.8, 0.8))
    for x in np.arange(-height, width + height, spacing):
        pen.line((x, ground, x + lean * (height - ground), height), fill=joint, width=line)


def _passers(pen: ImageDraw.ImageDraw, rng: np.random.Generator, size: tuple[int, int], ground: int) -> None:
    """Place small far pedestrians along the horizon."""
    width, height = size
    for x in rng.uniform(0, width, int(rng.integers(2, 6))):
        tall = height * float(rng.uniform(0.14, 0.24))
        top = ground - 0.62 * tall
        half = 0.13 * tall
        upper = _tone(rng, "white", "red", "navy", "grey", "yellow", "black")
        lower = _tone(rng, "black", "denim", "beige", "charcoal")
        pen.ellipse((x - 0.45 * half, top - 0.2 * tall, x + 0.45 * half, top), fill=(176, 136, 112))
        _box(pen, x - half, top, 2 * half, 0.42 * tall, upper)
        _box(pen, x - 0.8 * half, top + 0.4 * tall, 1.6 * half, 0.44 * tall, lower)


def _facade(pen: ImageDraw.ImageDraw, rng: np.random.Generator, size: tuple[int, int], ground: int) -> None:
    """A row of house fronts with windows and doors."""
    width, height = size
    x = 0.0
    while x < width:
        front = height * float(rng.uniform(0.5, 1.0))
        wall = _tone(rng, "beige", "cream", "camel", "silver", "orange", "white")
        _box(pen, x, 0, front, ground, wall)
        glass = mix(_tone(rng, "sky", "charcoal", "navy"), wall, 0.25)
        step = height * float(rng.uniform(0.16, 0.26))
        for column in np.arange(x + 0.25 * step, x + front - 0.6 * step, step):
            for row in np.arange(ground - 0.9 * step, -step, -1.15 * step):
                _box(pen, column, row, 0.55 * step, 0.75 * step, glass)
                pen.rectangle((column, row, column + 0.55 * step, row + 0.75 * step), outline=rgb(wall, 1.2))
        door = x + front * float(rng.uniform(0.2, 0.7))
        _box(
            pen,
            door,
            ground - 0.34 * height,
            0.15 * height,
            0.34 * height,
            _tone(rng, "brown", "forest", "burgundy"),
        )
        _box(pen, x, ground - 0.025 * height, front, 0.025 * height, mix(wall, (60, 60, 60), 0.4))
        x += front
    _floor(pen, rng, size, ground, _tone(rng, "silver", "cream", "beige"))
    _passers(pen, rng, size, ground)


def _park(pen: ImageDraw.ImageDraw, rng: np.random.Generator, size: tuple[int, int], ground: int) -> None:
    """Sky, trees and hedges over a lawn and a path."""
    width, height = size
    _box(pen, 0, 0, width, ground, (190, 214, 232))
    for x in rng.uniform(0, width, 26):
        green = mix(COLOURS["forest"], COLOURS["lime"], float(rng.uniform(0.1, 0.7)))
        radius = height * float(rng.uniform(0.08, 0.2))
        y = ground - height * float(rng.uniform(0.1, 0.5))
        _box(pen, x - 0.01 * height, y, 0.025 * height, ground - y, COLOURS["brown"])
        for _ in range(5):
            cx, cy = x + radius * rng.uniform(-0.6, 0.6), y + radius * rng.uniform(-0.6, 0.6)
            shade = rgb(green, float(rng.uniform(0.75, 1.2)))
            pen.ellipse((cx - radius, cy - 0.8 * radius, cx + radius, cy + 0.8 * radius), fill=shade)
    _box(pen, 0, ground - 0.07 * height, width, 0.07 * height, mix(COLOURS["forest"], COLOURS["green"], 0.4))
    _floor(pen, rng, size, ground, _tone(rng, "beige", "cream"))
    edge = height * float(rng.uniform(0.06, 0.16))
    _box(pen, 0, ground, width, edge, mix(COLOURS["lime"], COLOURS["green"], float(rng.uniform(0.2, 0.8))))
    _passers(pen, rng, size, ground)


def _shops(pen: ImageDraw.ImageDraw, rng: np.random.Generator, size: tuple[int, int], ground: int) -> None:
    """Shop windows under coloured awnings."""
    width, height = size
    _box(pen, 0, 0, width, ground, _tone(rng, "cream", "silver", "camel"))
    x = 0.0
    while x < width:
        shop = height * float(rng.uniform(0.4, 0.75))
        colour = _tone(rng, "red", "blue", "green", "yellow", "turquoise", "orange")
        _box(pen, x + 0.03 * shop, ground - 0.46 * height, 0.94 * shop, 0.42 * height, (74, 84, 94))
        for _ in range(9):
            ware = _tone(rng, "white", "yellow", "pink", "red", "sky", "lime")
            side = 0.05 * height
            _box(
                pen,
                x + shop * rng.uniform(0.06, 0.85),
                ground - height * rng.uniform(0.1, 0.4),
                side,
                1.4 * side,
                ware,
            )
        _box(pen, x, ground - 0.56 * height, shop, 0.12 * height, colour)
        for stripe in np.arange(x, x + shop, 0.1 * height):
            _box(pen, stripe, ground - 0.56 * height, 0.045 * height, 0.12 * height, (232, 230, 224))
        x += shop
    _floor(pen, rng, size, ground, _tone(rng, "silver", "grey", "beige"))
    _passers(pen, rng, size, ground)


def _street(pen: ImageDraw.ImageDraw, rng: np.random.Generator, size: tuple[int, int], ground: int) -> None:
    """A wall with parked cars, a kerb and asphalt."""
    width, height = size
    _box(pen, 0, 0, width, ground, _tone(rng, "sky", "cream", "silver"))
    _box(pen, 0, 0.3 * ground, width, ground, _tone(rng, "camel", "burgundy", "beige"))
    for y in np.arange(0.3 * ground, ground, 0.05 * height):
        pen.line((0, y, width, y), fill=(150, 132, 116), width=1)
    for x in np.arange(0, width, height * 0.85):
        left = x + height * float(rng.uniform(0, 0.3))
        body = _tone(rng, "white", "red", "blue", "charcoal", "silver")
        long, top = 0.6 * height, ground - 0.2 * height
        cabin = [
            (left + 0.2 * long, top),
            (left + 0.7 * long, top),
            (left + 0.85 * long, top + 0.09 * height),
            (left + 0.08 * long, top + 0.09 * height),
        ]
        pen.polygon(cabin, fill=(84, 98, 112))
        pen.rounded_rectangle((left, top + 0.08 * height, left + long, ground), 0.03 * height, fill=rgb(body))
        for wheel in (0.2, 0.78):
            cx, r = left + wheel * long, 0.045 * height
            pen.ellipse((cx - r, ground - r, cx + r, ground + r), fill=(30, 30, 32))
    _floor(pen, rng, size, ground + round(0.02 * height), _tone(rng, "grey", "charcoal", "silver"))
    _box(pen, 0, ground + 0.02 * height, width, 0.035 * height, (206, 202, 194))


def _tiled(pen: ImageDraw.ImageDraw, rng: np.random.Generator, size: tuple[int, int], ground: int) -> None:
    """A tiled passage with posters and a coloured band."""
    width, height = size
    wall = _tone(rng, "silver", "white", "sky", "turquoise")
    _box(pen, 0, 0, width, ground, wall)
    step = 0.07 * height
    for y in np.arange(0, ground, step):
        pen.line((0, y, width, y), fill=rgb(wall, 0.85), width=1)
    for x in np.arange(0, width, 1.5 * step):
        pen.line((x, 0, x, ground), fill=rgb(wall, 0.85), width=1)
    band = ground - height * float(rng.uniform(0.18, 0.4))
    _box(pen, 0, band, width, 0.05 * height, _tone(rng, "blue", "red", "green", "mustard"))
    for x in np.arange(0, width, 0.9 * height):
        _poster(pen, rng, x + height * float(rng.uniform(0.0, 0.4)), ground - 0.5 * height, height)
    _floor(pen, rng, size, ground, _tone(rng, "grey", "charcoal", "olive"))


def _poster(pen: ImageDraw.ImageDraw, rng: np.random.Generator, left: float, top: float, height: int) -> None:
    """Hang a lit advertisement."""
    wide, tall = 0.22 * height, 0.34 * height
    _box(pen, left - 2, top - 2, wide + 4, tall + 4, (52, 54, 58))
    _box(pen, left, top, wide, tall, _tone(rng, "white", "yellow", "sky", "pink", "red"))
    for _ in range(4):
        blot = _tone(rng, "red", "blue", "black", "green", "orange")
        _box(
            pen,
            left + wide * rng.uniform(0, 0.6),
            top + tall * rng.uniform(0, 0.7),
            0.35 * wide,
            0.25 * tall,
            blot,
        )


def _platform(pen: ImageDraw.ImageDraw, rng: np.random.Generator, size: tuple[int, int], ground: int) -> None:
    """A train behind a platform's edge, with its yellow line."""
    width, height = size
    _box(pen, 0, 0, width, ground, (40, 44, 50))
    body = _tone(rng, "silver", "blue", "red", "green")
    top = ground - 0.62 * height
    _box(pen, 0, top, width, 0.56 * height, body)
    _box(pen, 0, ground - 0.2 * height, width, 0.06 * height, _tone(rng, "white", "navy", "mustard"))
    for x in np.arange(0, width, 0.4 * height):
        _box(pen, x, top + 0.1 * height, 0.26 * height, 0.2 * height, (150, 168, 172))
        if int(x / (0.4 * height)) % 3 == 0:
            _box(pen, x + 0.29 * height, top + 0.06 * height, 0.09 * height, 0.5 * height, rgb(body, 0.7))
    _box(pen, 0, ground - 0.06 * height, width, 0.06 * height, (24, 24, 28))
    _floor(pen, rng, size, ground, _tone(rng, "grey", "silver", "charcoal"))
    _box(pen, 0, ground + 0.05 * height, width, 0.035 * height, (206, 172, 48))


def _hall(pen: ImageDraw.ImageDraw, rng: np.random.Generator, size: tuple[int, int], ground: int) -> None:
    """A hall with columns, dark openings and a row of lamps."""
    width, height = size
    wall = _tone(rng, "grey", "olive", "camel", "silver")
    _box(pen, 0, 0, width, ground, wall)
    for x in np.arange(0, width, 0.62 * height):
        _box(pen, x + 0.2 * height, ground - 0.46 * height, 0.32 * height, 0.46 * height, rgb(wall, 0.5))
        _box(pen, x, 0, 0.12 * height, ground + 0.04 * height, rgb(wall, 1.3))
        _box(pen, x + 0.085 * height, 0, 0.035 * height, ground + 0.04 * height, rgb(wall, 0.8))
        _box(pen, x + 0.24 * height, 0.05 * height, 0.22 * height, 0.03 * height, (238, 240, 224))
    _floor(pen, rng, size, ground, _tone(rng, "grey", "camel", "silver"))
    _passers(pen, rng, size, ground)


def _gates(pen: ImageDraw.ImageDraw, rng: np.random.Generator, size: tuple[int, int], ground: int) -> None:
    """Ticket gates and machines before a dark wall with signs."""
    width, height = size
    wall = _tone(rng, "charcoal", "navy", "forest", "grey")
    _box(pen, 0, 0, width, ground, wall)
    _box(pen, 0, 0.06 * height, width, 0.09 * height, _tone(rng, "blue", "mustard", "white"))
    for x in np.arange(0, width, 0.34 * height):
        metal = _tone(rng, "silver", "white", "grey")
        _box(pen, x, ground - 0.24 * height, 0.12 * height, 0.26 * height, metal)
        _box(pen, x + 0.03 * height, ground - 0.21 * height, 0.06 * height, 0.04 * height, (60, 190, 110))
        if rng.random() < 0.3:
            _box(
                pen,
                x + 0.13 * height,
                ground - 0.42 * height,
                0.2 * height,
                0.42 * height,
                _tone(rng, "red", "blue"),
            )
            _box(
                pen, x + 0.16 * height, ground - 0.38 * height, 0.14 * height, 0.14 * height, (176, 214, 224)
            )
    _floor(pen, rng, size, ground, _tone(rng, "silver", "grey", "cream"))
    _passers(pen, rng, size, ground)


_SCENERIES: dict[str, tuple[Scenery, ...]] = {
    "plaza": (_facade, _park, _shops, _street),
    "station": (_tiled, _platform, _hall, _gates),
}
