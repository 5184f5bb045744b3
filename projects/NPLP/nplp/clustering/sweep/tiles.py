"""Approximate squared distances of whole blocks of pairs, from matrix products with a known error.

A product costs a fraction of a difference, and its error is bounded. Products decide for almost all pairs
whether they are near; `features.squared_distance` settles the pairs that the bound leaves open. Rows are
centred and scaled to norms of at most 1, so that a common offset or a unit costs no digits.

Shapes: N samples, D dimensions, R x C pairs of a tile.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
import torch

from nplp.clustering.sweep.features import FeatureRows, centred_rows, half_rows
from nplp.clustering.sweep.parallel import Progress, row_blocks, run_blocks
from nplp.clustering.sweep.shares import ALONE, Shares, owner, true_for_all
from nplp.memory import is_out_of_memory
from nplp.products import multiply

__all__ = [
    "HALF_ERROR",
    "Product",
    "Tile",
    "TileSource",
    "TileVisitor",
    "half_for_all",
    "half_precision_pays",
    "sweep",
]

logger = logging.getLogger(__name__)

_TILE_ROWS = 1024
_TILE_COLUMNS = 512
_MIN_ROWS = 128
_DIAGONAL_STEPS = 2
"""Parts of the square that a stripe has on the diagonal: with more of them fewer pairs are made twice."""
_DEVICE_TILE = 4096
_MIN_HALF_DIMENSION = 64
_SINGLE_ROUNDOFF = 2.0**-24
_HALF_ROUNDOFF = 2.0**-8
HALF_ERROR = 2 * _HALF_ROUNDOFF + _HALF_ROUNDOFF**2 + 1.01 * _HALF_ROUNDOFF
"""What bfloat16 adds to the part of the error that grows with the norms."""
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

    @property
    def cells(self) -> int:
        """R C."""
        return (self.row_stop - self.row) * (self.column_stop - self.column)


class TileVisitor(Protocol):
    """Reads the tiles of a sweep, in one thread."""

    def __call__(self, tile: Tile, product: Product) -> Callable[[], object] | None:
        """Read the products [R, C] of the scaled rows of a tile, which may be overwritten.

        Where memory does not suffice for reading, the tile comes again in pieces.

        Returns:
            A function that keeps what was read, or None. It is called once, before the next tile. All that
            counts a pair belongs in it, because a tile may be read again.
        """


def half_precision_pays(features: FeatureRows) -> bool:
    """Return whether products in bfloat16 save more time than settling what they leave open costs.

    That is so where the processor multiplies them several times faster than float32 (AMX), unless rows are
    short. On a device float32 is fast enough.
    """
    supported = getattr(torch.cpu, "_is_amx_tile_supported", None)
    # Without oneDNN, torch adds bfloat16 up with an error of which no bound is known.
    used = torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)
    fast = features.on_device is None and supported is not None and bool(supported()) and used
    return fast and features.dimension >= _MIN_HALF_DIMENSION


def half_for_all(features: FeatureRows, half: bool | None, shares: Shares) -> bool:
    """Return whether a shared pass multiplies in bfloat16: as asked for, or where it pays for all workers.

    Args:
        features: N samples.
        half: what the caller wants; None where it is left to this function.
        shares: this worker.
    """
    return true_for_all(shares, half_precision_pays(features)) if half is None else half


class TileSource:
    """The rows of features, centred and scaled for products, with a bound on the error of the products.

    For the scaled norms n and the product p of two rows, |n_i + n_j - 2 p - d^2| <= slope (n_i + n_j) + floor
    where d is their scaled distance.

    Attributes:
        features: N samples.
        half: whether products are made in bfloat16.
        norms: [N] float64, squared norms of the scaled rows, at most 1.
        scale: the scaled distance of two samples over their distance, a power of two.
        slope: the part of the error that grows with n_i + n_j: about D 2^-24, and 1.2% more in bfloat16.
        floor: the rest of the error.
    """

    def __init__(self, features: FeatureRows, half: bool = False) -> None:
        """Prepare the rows of features.

        Args:
            features: N samples. Where they are on a device, it multiplies, with a copy of the centred rows.
            half: multiply in bfloat16; on the processor only.
        """
        self.features = features
        self.half = half
        self._origin = features.mean()
        norms = features.squared_norms(self._origin)
        largest = float(norms.max())
        self.scale = float(2.0 ** -np.ceil(np.log2(np.sqrt(largest)))) if largest > 0 else 1.0
        self.norms = norms * self.scale**2
        self.slope = (features.dimension + 16) * _SINGLE_ROUNDOFF
        if half:
            self.slope += HALF_ERROR
        # Offsets and origin are rounded relative to themselves, not to what is left of a row.
        shift = float(np.abs(features.offsets).max()) + float(np.abs(self._origin).max())
        shift *= 2.0**-50 * features.dimension**0.5 * self.scale
        self.floor = 4 * shift + shift**2 + _SMALLEST * features.dimension

    def __len__(self) -> int:
        return len(self.features)

    def worker(self) -> TileWorker:
        """Return what makes products in one thread."""
        return _ArrayWorker(self) if self.features.on_device is None else _DeviceWorker(self.device_rows)

    @cached_property
    def device_rows(self) -> torch.Tensor:
        """The centred, scaled rows [N, D] float32 on the device of the features."""
        values = self.features.on_device
        assert values is not None
        offsets, groups, origin = (
            torch.from_numpy(part).to(values.device)
            for part in (self.features.offsets, self.features.groups, self._origin)
        )
        rows = torch.empty(values.shape, dtype=torch.float32, device=values.device)
        for start, stop in row_blocks(len(self), _DEVICE_TILE):
            shifted = values[start:stop].double() - offsets[groups[start:stop]] - origin
            rows[start:stop] = shifted * self.scale
        return rows

    def load(self, members: np.ndarray, out: torch.Tensor) -> torch.Tensor:
        """Write the centred, scaled rows of samples [M] to the first rows of a buffer, in its precision."""
        rows = out[: len(members)]
        # Compiled code knows no bfloat16, only its bits.
        half = rows.dtype == torch.bfloat16
        kernel, array = (half_rows, rows.view(torch.uint16).numpy()) if half else (centred_rows, rows.numpy())
        kernel(*self.features.arrays, self._origin, self.scale, members, array)
        return rows


class TileWorker(Protocol):
    """Makes the products of tiles in one thread."""

    def set_rows(self, members: np.ndarray) -> None:
        """Load the samples [R] int64 that the following tiles have as rows."""

    def product(self, rows: slice, members: np.ndarray) -> Product:
        """Return the products [R, C] of a part of the loaded rows with the samples `members` [C] int64."""


class _ArrayWorker:
    """Products on the processor, in buffers of one thread."""

    def __init__(self, source: TileSource) -> None:
        longest, dimension = max(_TILE_ROWS, _TILE_COLUMNS), source.features.dimension
        self._source = source
        self._half = source.half
        kind = torch.bfloat16 if self._half else torch.float32
        self._rows, self._columns = (_buffer(longest, dimension, kind=kind) for _ in range(2))
        self._product = _buffer(_most_cells())
        self._rough = _buffer(_most_cells(), kind=kind) if self._half else self._product

    def set_rows(self, members: np.ndarray) -> None:
        self._source.load(members, self._rows)

    def product(self, rows: slice, members: np.ndarray) -> np.ndarray:
        height, width = rows.stop - rows.start, len(members)
        columns = self._source.load(members, self._columns)
        rough = self._rough[: height * width].view(height, width)
        multiply(self._rows[rows], columns, rough)
        product = self._product[: height * width].view(height, width)
        return (product.copy_(rough) if self._half else product).numpy()


class _DeviceWorker:
    """Products on a device that holds all rows."""

    def __init__(self, rows: torch.Tensor) -> None:
        self._all = rows
        self._members = np.empty(0, dtype=np.int64)

    def set_rows(self, members: np.ndarray) -> None:
        self._members = members

    def product(self, rows: slice, members: np.ndarray) -> torch.Tensor:
        device = self._all.device
        chosen, columns = (
            self._all[torch.from_numpy(part).to(device)] for part in (self._members[rows], members)
        )
        product = torch.empty(len(chosen), len(columns), dtype=torch.float32, device=device)
        multiply(chosen, columns, product)
        return product


def _buffer(*size: int, kind: torch.dtype = torch.float32) -> torch.Tensor:
    """Return memory of the processor, whatever the default type and device of torch are."""
    return torch.empty(size, dtype=kind, device="cpu")


def sweep(
    source: TileSource,
    rows: np.ndarray,
    columns: np.ndarray | None,
    make_visitor: Callable[[], TileVisitor],
    progress: Progress,
    name: str,
    shares: Shares = ALONE,
) -> None:
    """Visit the products of all pairs of two sets of samples, or of all pairs within one.

    In a shared sweep each worker visits its part of the tiles, which are the same for any number of workers;
    the caller brings together what they found.

    Args:
        source: of the products.
        rows: [R] int64 samples.
        columns: [C] int64 samples; None for the pairs i < j of `rows`, where tiles on the diagonal hold the
            other pairs too.
        make_visitor: called once in each thread.
        progress: shows a bar of pairs.
        name: what the bar is called.
        shares: this worker, where the tiles are divided among several.
    """
    partners = rows if columns is None else columns
    on_device = source.features.on_device is not None
    height = shares.agreed(_DEVICE_TILE if on_device else _stripe_rows(len(rows)))
    stripes = row_blocks(len(rows), height)
    width = _DEVICE_TILE if on_device else _TILE_COLUMNS
    symmetric = columns is None

    def tiles_of(stripe: tuple[int, int]) -> Iterator[Tile]:
        return _tiles(stripe, len(partners), width, symmetric)

    division = _Division(shares, [sum(tile.cells for tile in tiles_of(stripe)) for stripe in stripes])
    if on_device:
        # The rows are centred once, before several threads ask for them.
        source.worker()
    pieces = _Pieces(name)
    with progress.step(name, division.own_cells) as advance:

        def make_worker() -> Callable[[int], None]:
            products, visit = source.worker(), make_visitor()

            def work(number: int) -> None:
                start, stop = stripes[number]
                products.set_rows(rows[start:stop])

                def read(tile: Tile) -> Callable[[], object] | None:
                    part = slice(tile.row - start, tile.row_stop - start)
                    return visit(tile, products.product(part, partners[tile.column : tile.column_stop]))

                for tile in division.own(number, tiles_of(stripes[number])):
                    pieces.read(tile, read)
                    advance(tile.cells)

            return work

        run_blocks(division.stripes, make_worker)


class _Division:
    """Which tiles of a sweep are this worker's: a range of them, in their order, of its share of the cells.

    Attributes:
        stripes: the numbers of those that have such tiles.
        own_cells: about how many cells these tiles have.
    """

    def __init__(self, shares: Shares, cells: list[int]) -> None:
        """Divide stripes of so many cells each."""
        self._shares = shares
        self._total = sum(cells)
        self._before = [0, *itertools.accumulate(cells)]
        self.own_cells = self._total // shares.count
        self.stripes = [number for number in range(len(cells)) if self._touches(number)]

    def _touches(self, number: int) -> bool:
        """Tell whether a stripe may have tiles of this worker."""
        ends = self._before[number : number + 2]
        first, last = (owner(self._shares, before, 0, self._total) for before in ends)
        return first <= self._shares.number <= last

    def own(self, number: int, tiles: Iterator[Tile]) -> Iterator[Tile]:
        """Yield this worker's tiles of a stripe."""
        before = self._before[number]
        for tile in tiles:
            if owner(self._shares, before, tile.cells, self._total) == self._shares.number:
                yield tile
            before += tile.cells


class _Pieces:
    """Tiles, or smaller pieces of them where memory does not suffice; shared by the threads of a sweep.

    The next sweep begins with whole tiles again, because memory may be short for a while only.
    """

    def __init__(self, name: str) -> None:
        """Begin a sweep, which the log calls `name`."""
        self._name = name
        self._most: float = math.inf

    def read(self, tile: Tile, read: Callable[[Tile], Callable[[], object] | None]) -> None:
        """Read a tile and keep what was read, once for each pair.

        Args:
            tile: the whole tile.
            read: makes the products of a piece and reads them; see `TileVisitor`.

        Raises:
            MemoryError: or torch's, where a single pair does not fit; what else `read` and keeping raise.
        """
        pending = [tile]
        while pending:
            piece = pending.pop()
            halves = _halves(piece)
            if piece.cells > self._most and halves:
                pending += reversed(halves)
                continue
            try:
                keep = read(piece)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or not halves:
                    raise
                self._shrink(piece.cells // 2)
                pending += reversed(halves)
                continue
            if keep is not None:
                keep()
            # Given back before the next piece is read.
            del keep

    def _shrink(self, cells: int) -> None:
        """Go on with pieces of at most `cells` pairs, and log a warning the first time."""
        if self._most == math.inf:
            logger.warning("%s: out of memory, going on with smaller blocks", self._name)
        self._most = min(self._most, max(cells, 1))


def _halves(tile: Tile) -> list[Tile]:
    """Return smaller tiles, mostly two, with the new cells of one; none of a tile of a single pair."""
    row, row_stop, column, column_stop, on_diagonal = tile
    half = (row_stop - row) // 2
    if on_diagonal and half:
        return [tile._replace(row_stop=row + half), tile._replace(row=row + half, column=column + half)]
    if on_diagonal:
        # The cell of a sample with itself is not new.
        return [Tile(row, row_stop, column + 1, column_stop, False)] if column_stop - column > 1 else []
    width = column_stop - column
    if width > 1 and width >= row_stop - row:
        middle = column + width // 2
        return [tile._replace(column_stop=middle), tile._replace(column=middle)]
    return [tile._replace(row_stop=row + half), tile._replace(row=row + half)] if half else []


def _most_cells() -> int:
    """Return the pairs of the largest tile, which may be one on the diagonal."""
    return _TILE_ROWS * max(_TILE_COLUMNS, -(-_TILE_ROWS // _DIAGONAL_STEPS))


def _stripe_rows(count: int) -> int:
    """Return the rows of a stripe: few enough that every thread has several stripes."""
    share = count // (6 * torch.get_num_threads()) // 64 * 64
    return min(_TILE_ROWS, max(_MIN_ROWS, share))


def _tiles(stripe: tuple[int, int], count: int, width: int, symmetric: bool) -> Iterator[Tile]:
    """Yield the tiles of a stripe; where the sweep is symmetric the first ones descend along the diagonal."""
    start, stop = stripe
    if symmetric:
        for row, row_stop in row_blocks(stop - start, -(-(stop - start) // _DIAGONAL_STEPS)):
            yield Tile(start + row, start + row_stop, start + row, stop, True)
    for column in range(stop if symmetric else 0, count, width):
        yield Tile(start, stop, column, min(column + width, count), False)
