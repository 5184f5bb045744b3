"""The one way in which images are read: upright and in three channels, or with the reason why not."""

import os
from contextlib import suppress
from dataclasses import dataclass

from fastreid.data.data_utils import read_image
from PIL import Image, ImageOps

from nplp.errors import UserError, in_one_line

__all__ = [
    "DecodedImage",
    "UnreadableImageError",
    "decode",
    "missing_or_empty",
    "read_rgb",
    "why_unreadable",
]

EMPTY = "empty file"
TOO_DEEP = "more than 8 bits a channel, convert it"


class UnreadableImageError(UserError):
    """An image that cannot be read; its ``reason`` says why in a few words."""

    def __init__(self, path: str, reason: str) -> None:
        """Take the file and the reason."""
        super().__init__(f"{path!r} cannot be read ({reason}): replace or remove it")
        self.reason = reason


def read_rgb(path: str) -> Image.Image:
    """Return an image as the model gets it: turned as its EXIF orientation says, with 8 bits a channel.

    Raises:
        UnreadableImageError: whatever is wrong with the file.
    """
    try:
        # Without a format the toolbox leaves four channels to CMYK, and numbers of colours to palettes.
        return read_image(path, "RGB")
    except MemoryError:
        raise
    # Decoders of damaged files raise errors of every kind.
    except Exception as error:
        raise UnreadableImageError(path, why_unreadable(error)) from error


@dataclass(frozen=True)
class DecodedImage:
    """An image and how its file stores it.

    Attributes:
        image: as :func:`read_rgb` returns it.
        mode: Pillow's name of the file's kind of pixels, such as ``"RGB"``, ``"L"`` or ``"RGBA"``.
    """

    image: Image.Image
    mode: str


def decode(path: str) -> DecodedImage:
    """Return an image whose file was checked: it is not empty, has 8 bits a channel, and is whole.

    Raises:
        UnreadableImageError: whatever is wrong with the file.
    """
    if fault := missing_or_empty(path):
        raise UnreadableImageError(path, fault)
    try:
        with Image.open(path) as stored:
            mode = stored.mode
            if not mode.startswith(("I", "F")):
                upright = stored
                # The toolbox takes an image with a damaged orientation as it is.
                with suppress(Exception):
                    upright = ImageOps.exif_transpose(stored)
                return DecodedImage(upright.convert("RGB"), mode)
    except MemoryError:
        raise
    # Decoders of damaged files raise errors of every kind.
    except Exception as error:
        raise UnreadableImageError(path, why_unreadable(error)) from error
    raise UnreadableImageError(path, TOO_DEEP)


def missing_or_empty(path: str) -> str:
    """Return what is wrong with a file that its size alone shows, in a few words; empty where nothing is."""
    try:
        return "" if os.path.getsize(path) else EMPTY
    except (OSError, ValueError) as error:
        return why_unreadable(error)


def why_unreadable(error: Exception) -> str:
    """Return in a few words why an image cannot be read."""
    if isinstance(error, Image.DecompressionBombError):
        return "too many pixels"
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"damaged: {in_one_line(error, 80)}"
