"""Approximate squared distances of whole blocks of pairs, from matrix products with a known error.

A product tells almost all pairs apart from almost all others at a fraction of the cost of their differences;
its error is bounded, and what the bound leaves open is settled by `features.squared_distance`. Rows are
centred and scaled to norms of at most 1, so that a common offset or a unit costs no digits.

Shapes: N samples, D dimensions, R x C pairs of a tile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch

from nplp.clustering.features import FeatureRows, centred_rows
from nplp.clustering.parallel import Progress, row_blocks, run_blocks

__all__ = ["Tile", "TileSource", "TileVisitor", "half_precision_is_fast", "sweep"]

_TILE_ROWS = 1024
_TILE_COLUMNS = 1024
_MIN_ROWS = 128
_SINGLE = 2.0**-24
_HALF = 2.0**-9
"""Unit roundoff of bfloat16."""
_SMALLEST = 1e-35
"""Scaled squared distances below this may have been lost to underflow."""


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

    def __call__(self, tile: Tile, product: np.ndarray) -> None:
        """Take the products [R, C] float32 of the scaled rows of a tile; they may be overwritten."""


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

    def __init__(self, features: FeatureRows, half: bool = False) -> None:
        """Prepare the rows of features.

        Args:
            features: N samples.
            half: multiply in bfloat16, where `slope` is 0.6% instead of about D 2^-24.
        """
        self.features = features
        self.half = half
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

    def worker(self) -> _TileWorker:
        """Return what makes products in one thread."""
        return _TileWorker(self)

    def load(self, members: np.ndarray, out: torch.Tensor) -> torch.Tensor:
        """Write the centred, scaled rows of samples [M] to the first rows of a float32 buffer."""
        rows = out[: len(members)]
        centred_rows(*self.features.arrays, self._origin, self.scale, members, rows.numpy())
        return rows


class _TileWorker:
    """Buffers of one thread, and the products made in them."""

    def __init__(self, source: TileSource) -> None:
        size = (max(_TILE_ROWS, _TILE_COLUMNS), source.features.dimension)
        self._source = source
        self._loaded = torch.empty(size)
        self._product = torch.empty(_TILE_ROWS * _TILE_COLUMNS)
        kind = torch.bfloat16 if source.half else torch.float32
        self._rows = torch.empty(size, dtype=kind)
        self._columns = torch.empty(size, dtype=kind) if source.half else self._loaded
        self._rough = torch.empty(_TILE_ROWS * _TILE_COLUMNS, dtype=kind) if source.half else self._product
        self._height = 0

    def set_rows(self, members: np.ndarray) -> None:
        """Load the samples that the following tiles have as rows."""
        self._height = len(members)
        if self._source.half:
            self._rows[: self._height].copy_(self._source.load(members, self._loaded))
        else:
            self._source.load(members, self._rows)

    def product(self, members: np.ndarray) -> np.ndarray:
        """Return the products [R, C] float32 of the loaded rows with the samples `members`."""
        width, cells = len(members), self._height * len(members)
        columns = self._source.load(members, self._loaded)
        if self._source.half:
            columns = self._columns[:width].copy_(columns)
        rough = self._rough[:cells].view(self._height, width)
        torch.mm(self._rows[: self._height], columns.T, out=rough)
        product = self._product[:cells].view(self._height, width)
        return (product.copy_(rough) if self._source.half else product).numpy()


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
    stripes = row_blocks(len(rows), _stripe_rows(len(rows)))
    symmetric = columns is None
    # The pairs i < j of a symmetric sweep fall to about half.
    total = sum((stop - start) * (len(partners) - (start if symmetric else 0)) for start, stop in stripes)
    with progress.step(name, total) as advance:

        def make_worker() -> Callable[[tuple[int, int]], None]:
            products, visit = source.worker(), make_visitor()

            def work(stripe: tuple[int, int]) -> None:
                start, stop = stripe
                products.set_rows(rows[start:stop])
                for tile in _tiles(stripe, len(partners), symmetric):
                    visit(tile, products.product(partners[tile.column : tile.column_stop]))
                    advance((stop - start) * (tile.column_stop - tile.column))

            return work

        run_blocks(stripes, make_worker)


def _stripe_rows(count: int) -> int:
    """Return the rows of a stripe: few enough that every thread has several stripes."""
    share = count // (8 * torch.get_num_threads()) // 64 * 64
    return min(_TILE_ROWS, max(_MIN_ROWS, share))


def _tiles(stripe: tuple[int, int], count: int, symmetric: bool) -> Sequence[Tile]:
    """Return the tiles of a stripe, which begin at the diagonal where the sweep is symmetric."""
    start, stop = stripe
    first = start if symmetric else 0
    return [
        Tile(start, stop, column, min(column + _TILE_COLUMNS, count), symmetric and column == start)
        for column in range(first, count, _TILE_COLUMNS)
    ]
