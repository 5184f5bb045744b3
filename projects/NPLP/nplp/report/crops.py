"""Small pictures of images, to be put into a page."""

import base64
import io
from functools import lru_cache

import numpy as np
from PIL import Image

from nplp.data.images import UnreadableImageError, read_rgb

__all__ = ["SPRITE_CELL", "data_uri", "read_crop", "sprite", "thumbnail"]

HEIGHT, WIDTH = 96, 48
SPRITE_CELL = (32, 64)
"""Width and height of an image in a sprite."""

COLUMNS = 30


def read_crop(path: str, size: tuple[int, int]) -> Image.Image:
    """Return an image, upright, at a size; a grey area where it cannot be read."""
    try:
        return read_rgb(path).resize(size, Image.Resampling.BILINEAR)
    except UnreadableImageError:
        return Image.new("RGB", size, (128, 128, 128))


def data_uri(image: Image.Image, quality: int = 75) -> str:
    """Return an image as a JPEG in a data URI."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


@lru_cache(maxsize=4096)
def thumbnail(path: str) -> str:
    """Return an image file as a data URI of 48 x 96 pixels; a grey area where it cannot be read."""
    return data_uri(read_crop(path, (WIDTH, HEIGHT)))


def sprite(paths: np.ndarray) -> tuple[str, int]:
    """Return one picture of all images, row by row, as a data URI, and its number of columns."""
    width, height = SPRITE_CELL
    columns = min(COLUMNS, max(1, len(paths)))
    sheet = Image.new("RGB", (columns * width, -(-max(1, len(paths)) // columns) * height))
    for number, path in enumerate(paths):
        sheet.paste(read_crop(str(path), SPRITE_CELL), (number % columns * width, number // columns * height))
    return data_uri(sheet, quality=60), columns
