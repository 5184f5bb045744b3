"""Approximate squared distances of whole blocks of pairs, from matrix products with a known error.

A product tells almost all pairs apart from almost all others at a fraction of the cost of their differences;
its error is bounded, and what the bound leaves open is settled by `features.squared_distance`. Rows are
centred and scaled to norms of at most 1, so that a common offset or a unit costs no digits.

Shapes: N samples, D dimensions, R x C pairs of a tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
import torch

from nplp.clustering.features import FeatureRows, centred_rows
from nplp.clustering.parallel import Progress, row_blocks, run_blocks

__all__ = ["Product", "Tile", "TileSource", "TileVisitor", "half_precision_is_fast", "sweep"]

_TILE_ROWS = 1024
_TILE_COLUMNS = 1024
_MIN_ROWS = 128
_DEVICE_TILE = 4096
_SINGLE = 2.0**-24
_HALF = 2.0**-8
"""Unit roundoff of bfloat16."""
_SMALLEST = 1e-35
"""Scaled squared distances below this may have been lost to underflow."""


Product = np.ndarray | torch.Tensor
"""[R, C] float32: an array for compiled kernels, or a tensor on a device that has kernels of its own."""


class Tile(NamedTuple):
    """Positions start..stop-1 of the rows and columns of a tile within the swept samples."""

    row: int
    row_stop: int
    column: int
    column_stop: int
    on_diagonal: bool
    """Whether rows and columns begin at the same sample: only cells right of the diagonal are then new."""


class TileVisitor(Protocol):
    """What is done to each tile of a sweep; one for each thread."""

    def __call__(self, tile: Tile, product: Product) -> None:
        """Take the products [R, C] of the scaled rows of a tile; they may be overwritten."""


def half_precision_is_fast() -> bool:
    """Tell whether this processor multiplies matrices of bfloat16 several times faster than of float32."""
    supported = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(supported is not None and supported())


class TileSource:
    """The rows of features as products see them, and how far those are from the truth.

    For the scaled norms n and the product p of two rows, |n_i + n_j - 2 p - d^2| <= slope (n_i + n_j) + floor
    where d is their scaled distance.

    Attributes:
        norms: [N] float64, squared norms of the scaled rows, at most 1.
        scale: the scaled distance of two samples over their distance, a power of two.
        slope: the part of the error in units of n_i + n_j.
        floor: the rest of it.
    """

    def __init__(self, features: FeatureRows, half: bool = False, device: torch.device | None = None) -> None:
        """Prepare the rows of features.

        Args:
            features: N samples.
            half: multiply in bfloat16, where `slope` is 1.2% instead of about D 2^-24.
            device: where to multiply, in tensors; None for the processor and arrays. A device gets a copy
                of all rows in the precision of the products.
        """
        self.features = features
        self.kind = torch.bfloat16 if half else torch.float32
        self.device = device
        self._origin = features.mean()
        norms = features.squared_norms(self._origin)
        largest = float(norms.max())
        self.scale = float(2.0 ** -np.ceil(np.log2(np.sqrt(largest)))) if largest > 0 else 1.0
        self.norms = norms * self.scale**2
        self.slope = (features.dimension + 16) * _SINGLE
        if half:
            self.slope += 2 * _HALF + _HALF**2 + 1.01 * _HALF
        # Offsets and origin are rounded relative to themselves, not to what is left of a row.
        shift = float(np.abs(features.offsets).max()) + float(np.abs(self._origin).max())
        shift *= 2.0**-50 * features.dimension**0.5 * self.scale
        self.floor = 4 * shift + shift**2 + _SMALLEST * features.dimension

    def __len__(self) -> int:
        return len(self.features)

    def worker(self) -> TileWorker:
        """Return what makes products in one thread."""
        return _ArrayWorker(self) if self.device is None else _DeviceWorker(self.device_rows)

    @cached_property
    def device_rows(self) -> torch.Tensor:
        """The centred, scaled rows [N, D] on the device."""
        rows = torch.empty(len(self), self.features.dimension, dtype=self.kind, device=self.device)
        loaded = torch.empty(_TILE_ROWS, self.features.dimension)
        for start, stop in row_blocks(len(self), _TILE_ROWS):
            rows[start:stop] = self.load(np.arange(start, stop), loaded).to(self.device)
        return rows

    def load(self, members: np.ndarray, out: torch.Tensor) -> torch.Tensor:
        """Write the centred, scaled rows of samples [M] to the first rows of a float32 buffer."""
        rows = out[: len(members)]
        centred_rows(*self.features.arrays, self._origin, self.scale, members, rows.numpy())
        return rows


class TileWorker(Protocol):
    """Makes the products of tiles in one thread."""

    def set_rows(self, members: np.ndarray) -> None:
        """Load the samples [R] int64 that the following tiles have as rows."""

    def product(self, members: np.ndarray) -> Product:
        """Return the products [R, C] of the loaded rows with the samples `members` [C] int64."""


class _ArrayWorker:
    """Products on the processor, in buffers of one thread."""

    def __init__(self, source: TileSource) -> None:
        size = (max(_TILE_ROWS, _TILE_COLUMNS), source.features.dimension)
        self._source = source
        self._half = source.kind == torch.bfloat16
        self._loaded = torch.empty(size)
        self._product = torch.empty(_TILE_ROWS * _TILE_COLUMNS)
        self._rows = torch.empty(size, dtype=source.kind)
        self._columns = torch.empty(size, dtype=source.kind) if self._half else self._loaded
        self._rough = torch.empty_like(self._product, dtype=source.kind) if self._half else self._product
        self._height = 0

    def set_rows(self, members: np.ndarray) -> None:
        self._height = len(members)
        if self._half:
            self._rows[: self._height].copy_(self._source.load(members, self._loaded))
        else:
            self._source.load(members, self._rows)

    def product(self, members: np.ndarray) -> np.ndarray:
        width, cells = len(members), self._height * len(members)
        columns = self._source.load(members, self._loaded)
        if self._half:
            columns = self._columns[:width].copy_(columns)
        rough = self._rough[:cells].view(self._height, width)
        torch.mm(self._rows[: self._height], columns.T, out=rough)
        product = self._product[:cells].view(self._height, width)
        return (product.copy_(rough) if self._half else product).numpy()


class _DeviceWorker:
    """Products on a device that holds all rows."""

    def __init__(self, rows: torch.Tensor) -> None:
        self._all = rows
        self._rows = rows[:0]

    def set_rows(self, members: np.ndarray) -> None:
        self._rows = self._all[torch.from_numpy(members).to(self._all.device)]

    def product(self, members: np.ndarray) -> torch.Tensor:
        columns = self._all[torch.from_numpy(members).to(self._all.device)]
        product = torch.empty(len(self._rows), len(columns), dtype=columns.dtype, device=columns.device)
        # Written to a given tensor, so that automatic mixed precision does not change its type.
        return torch.mm(self._rows, columns.T, out=product).float()


def sweep(
    source: TileSource,
    rows: np.ndarray,
    columns: np.ndarray | None,
    make_visitor: Callable[[], TileVisitor],
    progress: Progress,
    name: str,
) -> None:
    """Visit the products of all pairs of two sets of samples, or of all pairs within one.

    Args:
        source: of the products.
        rows: [R] int64 samples.
        columns: [C] int64 samples; None for the pairs i < j of `rows`, where tiles on the diagonal hold the
            other pairs too.
        make_visitor: called once in each thread.
        progress: shows a bar of pairs.
        name: what the bar is called.
    """
    partners = rows if columns is None else columns
    stripes = row_blocks(len(rows), _stripe_rows(len(rows)) if source.device is None else _DEVICE_TILE)
    width = _TILE_COLUMNS if source.device is None else _DEVICE_TILE
    symmetric = columns is None
    # The pairs i < j of a symmetric sweep fall to about half.
    total = sum((stop - start) * (len(partners) - (start if symmetric else 0)) for start, stop in stripes)
    with progress.step(name, total) as advance, _full_precision():

        def make_worker() -> Callable[[tuple[int, int]], None]:
            products, visit = source.worker(), make_visitor()

            def work(stripe: tuple[int, int]) -> None:
                start, stop = stripe
                products.set_rows(rows[start:stop])
                for tile in _tiles(stripe, len(partners), width, symmetric):
                    visit(tile, products.product(partners[tile.column : tile.column_stop]))
                    advance((stop - start) * (tile.column_stop - tile.column))

            return work

        run_blocks(stripes, make_worker)


@contextmanager
def _full_precision() -> Iterator[None]:
    """Multiply float32 as such, whatever shortcut the caller has allowed torch to take."""
    allowed = torch.get_float32_matmul_precision()
    if allowed != "highest":
        torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        if allowed != "highest":
            torch.set_float32_matmul_precision(allowed)


def _stripe_rows(count: int) -> int:
    """Return the rows of a stripe: few enough that every thread has several stripes."""
    share = count // (8 * torch.get_num_threads()) // 64 * 64
    return min(_TILE_ROWS, max(_MIN_ROWS, share))


def _tiles(stripe: tuple[int, int], count: int, width: int, symmetric: bool) -> Sequence[Tile]:
    """Return the tiles of a stripe, which begin at the diagonal where the sweep is symmetric."""
    start, stop = stripe
    first = start if symmetric else 0
    return [
        Tile(start, stop, column, min(column + width, count), symmetric and column == start)
        for column in range(first, count, width)
    ]
