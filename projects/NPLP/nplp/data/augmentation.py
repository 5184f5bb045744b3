"""The usual augmentation in one pass over the pixels, with the numbers that the toolbox's draws.

The toolbox pads, crops, flips and converts an image in four steps through Pillow, each of which makes a new
one. What it draws for an image, and the pixels that come of it, are the same here to the bit.

Shapes: H x W pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from fastreid.data.transforms import ToTensor
from PIL import Image
from torchvision.transforms import Compose, Pad, RandomCrop, RandomErasing, RandomHorizontalFlip

__all__ = ["UsualSteps", "of_pixels", "usual_steps"]

Transform = Callable[[np.ndarray], torch.Tensor]


@dataclass(frozen=True)
class UsualSteps:
    """What is usually done to a crop, in this order, with the conversion to a tensor before the erasing.

    Attributes:
        padding: black pixels that are added at each side; 0: none.
        crop: a random crop of what is padded; ``None``: none. Likewise the two below.
        flip: from left to right.
        erase: of a rectangle.
    """

    padding: int
    crop: RandomCrop | None
    flip: RandomHorizontalFlip | None
    erase: RandomErasing | None


def usual_steps(transform: Callable[[Any], Any]) -> UsualSteps | None:
    """Return the steps of a transformation of images; ``None`` if it has any other, or another order."""
    parts = list(transform.transforms) if isinstance(transform, Compose) else []
    found = [_next(parts, kind) for kind in (Pad, RandomCrop, RandomHorizontalFlip, ToTensor, RandomErasing)]
    pad, crop, flip, convert, erase = found
    if parts or convert is None or not (_is_usual_pad(pad) and _is_usual_crop(crop)):
        return None
    return UsualSteps(pad.padding if pad else 0, crop, flip, erase)


def of_pixels(transform: Callable[[Any], Any]) -> Transform:
    """Return a transformation of images as one of arrays [H, W, 3] uint8, in one pass where it is usual.

    One without any step gives a copy of the pixels as they are, a tensor [H, W, 3] uint8.
    """
    if isinstance(transform, Compose) and not transform.transforms:
        return torch.tensor
    steps = usual_steps(transform)
    return _Through(transform) if steps is None else _InOnePass(steps)


def _next(parts: list[Any], kind: type) -> Any:
    """Take the first of the parts if it is of a kind; ``None`` if not."""
    return parts.pop(0) if parts and type(parts[0]) is kind else None


def _is_usual_pad(pad: Any) -> bool:
    return pad is None or (isinstance(pad.padding, int) and pad.padding_mode == "constant" and pad.fill == 0)


def _is_usual_crop(crop: Any) -> bool:
    return crop is None or (crop.padding is None and not crop.pad_if_needed)


class _Through:
    """Any transformation of images."""

    def __init__(self, transform: Callable[[Any], Any]) -> None:
        self._transform = transform

    def __call__(self, pixels: np.ndarray) -> torch.Tensor:
        return self._transform(Image.fromarray(pixels))


class _InOnePass:
    """Padding with black, a crop, a flip, the conversion and erasing."""

    def __init__(self, steps: UsualSteps) -> None:
        self._padding = steps.padding
        self._crop = steps.crop
        self._flip = steps.flip
        erase = steps.erase
        # The tensor is new: nobody else sees that it changes.
        self._erase = erase and RandomErasing(erase.p, erase.scale, erase.ratio, erase.value, inplace=True)

    def __call__(self, pixels: np.ndarray) -> torch.Tensor:
        border = self._padding
        height, width = pixels.shape[0] + 2 * border, pixels.shape[1] + 2 * border
        top, left = 0, 0
        if self._crop is not None:
            # The crop draws by the size of what it is given alone.
            given = _NOTHING.expand(1, height, width)
            top, left, height, width = self._crop.get_params(given, self._crop.size)
        cut = _window(pixels, top - border, left - border, height, width)
        if self._flip is not None and torch.rand(1) < self._flip.p:
            cut = cut[:, ::-1]
        image = torch.from_numpy(np.ascontiguousarray(cut.transpose(2, 0, 1))).float()
        return image if self._erase is None else self._erase(image)


_NOTHING = torch.zeros(1)


def _window(pixels: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    """Return the pixels of a rectangle that may reach over the image's border, black there."""
    rows, columns = pixels.shape[:2]
    if top >= 0 and left >= 0 and top + height <= rows and left + width <= columns:
        return pixels[top : top + height, left : left + width]
    window = np.zeros((height, width, pixels.shape[2]), dtype=pixels.dtype)
    # In wide padding it may miss the image.
    first, start = min(max(top, 0), rows), min(max(left, 0), columns)
    last, end = max(min(top + height, rows), first), max(min(left + width, columns), start)
    window[first - top : last - top, start - left : end - left] = pixels[first:last, start:end]
    return window
