"""The usual augmentation of a whole batch at once, as operations on tensors wherever the batch is.

What is drawn has the distributions of torchvision's RandomCrop, RandomHorizontalFlip and RandomErasing, and
what is drawn of an image is done to it as torchvision does it, to the bit. The numbers themselves are others
than torchvision's: those of a batch are drawn together.

Shapes: B images of a batch, H x W pixels of a crop as it is read, h x w of an image that comes out.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import pad
from torchvision.transforms import Compose, RandomErasing

from nplp.data.augmentation import UsualSteps, usual_steps
from nplp.data.decoded import fixed_part
from nplp.data.places import seed_at
from nplp.data.samplers import Epoch

__all__ = ["BatchAugmentation", "augment", "divide", "draw"]

ATTEMPTS = 10
"""At a rectangle that fits into an image, as in torchvision; where none fits, nothing is erased."""

VIEWS = ("images", "second_images")
"""What a batch calls its augmentations."""


def divide(transform: Callable[[Any], Any]) -> tuple[Compose, UsualSteps]:
    """Return what is done to an image where it is read, the resizing, and what is left for the device.

    Raises:
        ValueError: if crops are not resized to one size, or if there is another step than the usual ones.
    """
    resize, rest = fixed_part(transform)
    if resize is None:
        raise ValueError(f"images of one batch need one size, got a transformation without: {transform}")
    steps = usual_steps(rest)
    if steps is None:
        raise ValueError(f"only padding, crops, flips and erasing are done on the device, got {rest}")
    return Compose([resize]), steps


class BatchAugmentation:
    """The augmentation of an epoch's batches.

    It depends on the epoch's seed, the batch's number and the image's place in the batch of all processes.
    """

    def __init__(self, steps: UsualSteps, epoch: Epoch, two_views: bool = False) -> None:
        """Take what is done to an image; with ``two_views`` each is augmented twice."""
        self._steps = steps
        self._epoch = epoch
        self._views = VIEWS if two_views else VIEWS[:1]

    def __call__(self, number: int, batch: dict[str, Any]) -> dict[str, Any]:
        """Return a batch with images [B, 3, h, w] float32 in place of pixels [B, H, W, 3] uint8.

        Args:
            number: the batch's in the epoch.
            batch: this process's share, as large as that of each other process, with pixels as "images".
        """
        pixels = batch["images"]
        count = len(pixels) * self._epoch.world_size
        own = self._epoch.share_of(count)
        # On the CPU wherever the pixels are: every device gets the same numbers.
        generator = torch.Generator().manual_seed(seed_at((self._epoch.seed, number)))
        views = {}
        for name in self._views:
            draws = draw(self._steps, tuple(pixels.shape[1:3]), count, generator)
            views[name] = augment(self._steps, pixels, draws[own])
        return {**batch, **views}


def draw(steps: UsualSteps, size: tuple[int, int], count: int, generator: torch.Generator) -> torch.Tensor:
    """Return what is done to each of ``count`` images of ``size`` H x W, [count, 7] int64.

    A row holds the first row and column of the crop in the padded image, whether it is flipped (0 or 1), and
    the first row and column, the height and the width of the erased rectangle, 0 x 0 for none.

    Raises:
        ValueError: if the crop is larger than the padded image.
    """
    height, width = _padded(steps, size)
    rows, columns = _cropped(steps, size)
    if rows > height or columns > width:
        raise ValueError(f"the crop, {rows} x {columns}, must fit into {height} x {width} padded pixels")

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    # 53 bits: the product never reaches the bound.
    top = (uniform(count) * (height - rows + 1)).floor()
    left = (uniform(count) * (width - columns + 1)).floor()
    flipped = (uniform(count) < (steps.flip.p if steps.flip else 0.0)).double()
    erased = torch.zeros(4, count, dtype=torch.float64)
    if steps.erase is not None:
        chosen = uniform(count) < steps.erase.p
        erased = chosen * _rectangles(steps.erase, (rows, columns), uniform(4, ATTEMPTS, count))
    return torch.stack((top, left, flipped, *erased), dim=1).long()


def _padded(steps: UsualSteps, size: tuple[int, int]) -> tuple[int, int]:
    return size[0] + 2 * steps.padding, size[1] + 2 * steps.padding


def _cropped(steps: UsualSteps, size: tuple[int, int]) -> tuple[int, int]:
    return _padded(steps, size) if steps.crop is None else tuple(steps.crop.size)


def _rectangles(erase: RandomErasing, size: tuple[int, int], uniform: torch.Tensor) -> torch.Tensor:
    """Return the first rectangle of ten that fits into each of some images, [4, count], zeros for none.

    Args:
        erase: says which areas, as shares of an image, and which ratios of height and width there are.
        size: height and width of the images.
        uniform: [4, ATTEMPTS, count] numbers in [0, 1).
    """
    height, width = size
    least, most = erase.scale
    narrowest, widest = (math.log(ratio) for ratio in erase.ratio)
    area = height * width * (least + (most - least) * uniform[0])
    ratio = (narrowest + (widest - narrowest) * uniform[1]).exp()
    rows, columns = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (rows < height) & (columns < width)
    first = fits & (fits.cumsum(0) == 1)
    top = (uniform[2] * (height - rows + 1)).floor()
    left = (uniform[3] * (width - columns + 1)).floor()
    return (torch.stack((top, left, rows, columns)) * first).sum(1)


def augment(steps: UsualSteps, pixels: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """Return images [B, 3, h, w] float32, 0..255, where the pixels [B, H, W, 3] uint8 are.

    Memory: 8 bytes a pixel of a crop besides what is returned, and the padded pixels.

    Args:
        steps: say the padding, the size of crops and the value of what is erased.
        pixels: of the crops.
        draws: [B, 7], see :func:`draw`.
    """
    # Each [B, 1].
    top, left, flipped, *rectangle = draws.to(pixels.device, non_blocking=True).T[:, :, None]
    height, width = _cropped(steps, (pixels.shape[1], pixels.shape[2]))
    rows = torch.arange(height, device=pixels.device)
    columns = torch.arange(width, device=pixels.device)
    taken = torch.where(flipped.bool(), columns.flip(0), columns)
    border = steps.padding
    padded = pad(pixels, (0, 0, border, border, border, border)) if border else pixels
    images = _at(padded, top + rows, left + taken)
    if steps.erase is None:
        return images
    first_row, first_column, erased_rows, erased_columns = rectangle
    inside = _between(rows, first_row, erased_rows)[:, None, :, None]
    inside = inside & _between(columns, first_column, erased_columns)[:, None, None]
    return torch.where(inside, _values(steps.erase.value, pixels.device), images)


def _at(pixels: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Return the rows [B, h] and columns [B, w] of pixels [B, H, W, 3] as images [B, 3, h, w] float32."""
    count, height, width, channels = pixels.shape
    images = torch.arange(count, device=pixels.device)[:, None, None]
    places = (images * height + rows[:, :, None]) * width + columns[:, None]
    found = pixels.flatten(0, 2).index_select(0, places.flatten()).view(*places.shape, channels)
    return found.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)


def _between(numbers: torch.Tensor, first: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    return (numbers >= first) & (numbers < first + count)


def _values(value: Any, device: torch.device) -> torch.Tensor:
    """Return what is put in place of each channel, [1, 1 or 3, 1, 1] float32."""
    values = [value] if isinstance(value, int | float) else list(value)
    return torch.tensor(values, dtype=torch.float32, device=device).view(1, -1, 1, 1)
