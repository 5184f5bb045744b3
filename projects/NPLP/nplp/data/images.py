"""The one way in which images are read: upright and in three channels, or with the reason why not."""

from fastreid.data.data_utils import read_image
from PIL import Image

from nplp.errors import UserError, in_one_line

__all__ = ["UnreadableImageError", "read_rgb", "why_unreadable"]


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


def why_unreadable(error: Exception) -> str:
    """Return in a few words why an image cannot be read."""
    if isinstance(error, Image.DecompressionBombError):
        return "too many pixels"
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"damaged: {in_one_line(error, 80)}"
