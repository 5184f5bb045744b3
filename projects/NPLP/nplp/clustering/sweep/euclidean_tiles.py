"""Reading a tile of Euclidean distances: the sums of all distances, and the pairs to be settled one by one.

Shapes: N samples, R x C pairs of a tile, P pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import NamedTuple

import numpy as np

from nplp.clustering.sweep.compiling import compiled
from nplp.clustering.sweep.device_tiles import Cells, Findings, read_tensor
from nplp.clustering.sweep.pairs import PairSink
from nplp.clustering.sweep.shares import Shares
from nplp.clustering.sweep.smallest import MeanOfSmallest
from nplp.clustering.sweep.tiles import Product, Tile, TileSource
from nplp.memory import ShrinkingBlocks

__all__ = ["DistanceSums", "PairSearch", "TileReader"]

_CANCELLED = 0.05
"""A squared distance below this share of the squared norms has lost digits that a sum would miss."""
_SUBROWS = 32
_SETTLED_PAIRS = 1 << 16
_CHUNK = 64
"""Columns that are looked at together first: most hold no pair that matters."""


@compiled(fastmath=True, error_model="numpy")
def _sum_distances(product, row_norms, column_norms, diagonal, rows, columns):  # type: ignore[no-untyped-def]
    """Turn products [R, C] into squared distances, and add distances up by rows [R] and columns [C]."""
    height, width = product.shape
    partial = np.zeros(width, dtype=np.float32)
    for start in range(0, height, _SUBROWS):
        partial[:] = 0
        for row in range(start, min(start + _SUBROWS, height)):
            cells, norm = product[row], row_norms[row]
            total = np.float32(0)
            for column in range(row + 1 if diagonal else 0, width):
                squared = max(norm + column_norms[column] - np.float32(2) * cells[column], np.float32(0))
                cells[column] = squared
                distance = np.sqrt(squared)
                total += distance
                partial[column] += distance
            rows[row] += total
        for column in range(width):
            columns[column] += partial[column]


@compiled(fastmath=True, error_model="numpy")
def _any_near(values, norm, column_norms, weight, share, bounds):  # type: ignore[no-untyped-def]
    """Tell whether any of a few pairs of a row may be selected, without a branch: compiled to vectors."""
    widest, steep, cancelled = bounds
    near = np.float32(0)
    for column in range(len(values)):
        norms = norm + column_norms[column]
        value = weight * values[column] + share * norms
        selected = (value <= widest + steep * norms) | (value <= cancelled * norms)
        near += np.float32(1) if selected else np.float32(0)
    return near > 0


@compiled(error_model="numpy")
def _select(  # type: ignore[no-untyped-def]
    cells, row_norms, column_norms, row_groups, column_groups, diagonal, squared, bounds, error, first, second
):
    """Write the positions of pairs that must be settled one by one, and sum up what is surely below.

    `cells` [R, C] are products, or squared distances if `squared`. `bounds` are squared distances: up to
    which pairs of one group are wanted, and pairs of two groups; under which the latter need no settling;
    last the share of the norms under which every pair is settled. `error` is the slope and floor of
    `TileSource`.

    Returns:
        How many pairs were written to `first` and `second` [R C], the number of pairs surely below and the
        sum of their distances.
    """
    within, across, low, cancelled = bounds
    slope, floor = error
    found, below, total = 0, 0, 0.0
    height, width = cells.shape
    widest = max(within, across) + floor
    steep = slope if widest > 0 else np.float32(0)
    # value = weight * cell + share * norms, whichever it is that the cells hold.
    weight, share = (np.float32(1), np.float32(0)) if squared else (np.float32(-2), np.float32(1))
    for row in range(height):
        norm, group, values = row_norms[row], row_groups[row], cells[row]
        for start in range(row + 1 if diagonal else 0, width, _CHUNK):
            stop = min(start + _CHUNK, width)
            part = values[start:stop]
            if not _any_near(part, norm, column_norms[start:stop], weight, share, (widest, steep, cancelled)):
                continue
            for column in range(start, stop):
                norms = norm + column_norms[column]
                value = weight * values[column] + share * norms
                if value > widest + steep * norms and value > cancelled * norms:
                    continue
                margin = slope * norms + floor
                crossing = group != column_groups[column]
                if value > cancelled * norms:
                    if value > (across if crossing else within) + margin:
                        continue
                    if crossing and value < low - margin and value > within + margin:
                        below += 1
                        total += np.sqrt(value)
                        continue
                first[found] = row
                second[found] = column
                found += 1
    return found, below, total


class DistanceSums:
    """Sums [N] of distances that are added in parts; the order of the parts does not matter.

    They are kept as whole multiples of a unit of 2^-62 of the greatest possible sum.
    """

    def __init__(self, count: int, terms: int) -> None:
        """Begin `count` sums of up to `terms` scaled distances each, none of which exceeds 2 by much."""
        self._unit = 2.0 ** (np.ceil(np.log2(4 * max(terms, 1))) - 62)
        self._sums = np.zeros(count, dtype=np.int64)
        self._lock = Lock()

    def add(self, start: int, values: np.ndarray) -> None:
        """Add values [M] float64 to the sums of start..start+M-1."""
        whole = np.rint(values / self._unit).astype(np.int64)
        with self._lock:
            self._sums[start : start + len(values)] += whole

    def join(self, shares: Shares) -> None:
        """Add what the other workers of a shared pass were given; each of them must call this.

        Args:
            shares: this worker.
        """
        self._sums = shares.summed(self._sums)

    def values(self) -> np.ndarray:
        """Return the sums [N] float64."""
        return self._sums * self._unit


@dataclass(frozen=True)
class PairSearch:
    """What to look for among the pairs of a sweep; squared distances are scaled.

    Attributes:
        groups: [N] int32, the camera of each sample; see `camera_groups`.
        within: squared distance up to which pairs of one group are wanted.
        across: the same for pairs of different groups.
        smallest: takes the distances of pairs of different groups, or None.
        held: takes the pairs themselves, or None.
    """

    groups: np.ndarray
    within: float = -1.0
    across: float = -1.0
    smallest: MeanOfSmallest | None = None
    held: PairSink | None = None


class _Settled(NamedTuple):
    """What is known of a block of P pairs.

    Attributes:
        crossing: distances of pairs of different groups, or None where not asked for.
        near: the samples and distances of the pairs to be held, or None.
        changes: what is added to the sums by rows [R] and columns [C]; empty without sums.
    """

    crossing: np.ndarray | None
    near: tuple[np.ndarray, np.ndarray, np.ndarray] | None
    changes: list[np.ndarray]


class TileReader:
    """Reads the tiles of a sweep, in one thread."""

    def __init__(
        self,
        source: TileSource,
        rows: np.ndarray,
        columns: np.ndarray,
        search: PairSearch,
        row_sums: DistanceSums | None = None,
        column_sums: DistanceSums | None = None,
    ) -> None:
        """Prepare to read.

        Args:
            source: of the products.
            rows: [R] int64, the samples of the sweep's rows.
            columns: [C] int64, those of its columns.
            search: the pairs to find.
            row_sums: takes the sums [R] of distances by rows, or None.
            column_sums: takes the sums [C] by columns, or None where `row_sums` is.
        """
        self._source = source
        self._rows, self._columns = rows, columns
        self._search = search
        self._sums = None if row_sums is None or column_sums is None else (row_sums, column_sums)
        low = 0.0 if search.smallest is None else search.smallest.bracket.low
        scaled_low = (low * source.scale) ** 2
        cancelled = -1.0 if self._sums is None and scaled_low == 0 else _CANCELLED
        bounds = (search.within, search.across, scaled_low, cancelled)
        self._bounds = tuple(float(bound) for bound in bounds)
        self._error = (source.slope, source.floor)
        self._first = self._second = np.empty(0, dtype=np.int32)
        self._blocks = ShrinkingBlocks("pairs", _SETTLED_PAIRS)

    def __call__(self, tile: Tile, product: Product) -> Callable[[], None]:
        """Read the products [R, C] of a tile; see `TileVisitor`."""
        rows = self._rows[tile.row : tile.row_stop]
        columns = self._columns[tile.column : tile.column_stop]
        norms = [self._source.norms[part].astype(np.float32) for part in (rows, columns)]
        groups = [self._search.groups[part] for part in (rows, columns)]
        read = self._read_array if isinstance(product, np.ndarray) else read_tensor
        cells = Cells(product, norms[0], norms[1], groups[0], groups[1], tile.on_diagonal)
        found = read(cells, self._bounds, self._error, self._sums is not None)
        return lambda: self._keep(tile, found, (rows, columns), (groups[0], groups[1]))

    def _keep(
        self,
        tile: Tile,
        found: Findings,
        samples: tuple[np.ndarray, np.ndarray],
        groups: tuple[np.ndarray, np.ndarray],
    ) -> None:
        """Settle the pairs that were found and count everything, block by block and each block once."""
        smallest, held = self._search.smallest, self._search.held
        if smallest is not None:
            smallest.add_below(found.below, found.total / self._source.scale)

        def settle(start: int, stop: int) -> _Settled:
            first, second = found.first[start:stop], found.second[start:stop]
            one, other = samples[0][first], samples[1][second]
            distance = np.sqrt(self._source.features.squared_distances(one, other))
            crossing, near, changes = None, None, []
            if smallest is not None:
                crossing = distance[groups[0][first] != groups[1][second]]
            if held is not None:
                within = distance <= held.bound
                near = one[within], other[within], distance[within]
            if self._sums is not None:
                # What was summed up approximately is replaced by the settled distance.
                squared = found.squared[start:stop]
                change = distance * self._source.scale - np.sqrt(squared, dtype=np.float64)
                changes = [
                    np.bincount(position, change, minlength=len(part))
                    for position, part in zip((first, second), found.sums, strict=True)
                ]
            return _Settled(crossing, near, changes)

        def count(settled: _Settled) -> None:
            if smallest is not None and settled.crossing is not None:
                self._in_blocks(smallest.add, settled.crossing)
            if held is not None and settled.near is not None:
                self._in_blocks(held.add, *settled.near)
            for part, change in zip(found.sums, settled.changes, strict=False):
                part += change

        self._blocks.run(len(found.first), settle, count)
        if self._sums is not None:
            for whole, first, part in zip(self._sums, (tile.row, tile.column), found.sums, strict=True):
                self._blocks.run(len(part), partial(_add_block, whole, first, part))

    def _in_blocks(self, add: Callable[..., object], *arrays: np.ndarray) -> None:
        """Give arrays [P] to what takes all of a block or none of it, in smaller ones if need be."""
        self._blocks.run(len(arrays[0]), lambda start, stop: add(*(part[start:stop] for part in arrays)))

    def _read_array(
        self, cells: Cells, bounds: tuple[float, ...], error: tuple[float, float], summed: bool
    ) -> Findings:
        """Read products that lie in an array."""
        product = cells.product
        if self._first.size < product.size:
            self._first, self._second = (np.empty(product.size, dtype=np.int32) for _ in range(2))
        sums = (np.zeros(product.shape[0]), np.zeros(product.shape[1]))
        if summed:
            _sum_distances(product, cells.row_norms, cells.column_norms, cells.diagonal, *sums)
        single = tuple(np.float32(bound) for bound in bounds), tuple(np.float32(part) for part in error)
        found, below, total = _select(*cells, summed, *single, self._first, self._second)
        first, second = self._first[:found], self._second[:found]
        return Findings(first, second, product[first, second], below, total, sums)


def _add_block(sums: DistanceSums, first: int, values: np.ndarray, start: int, stop: int) -> None:
    """Add a part of the values [M] of samples `first` onwards to their sums."""
    sums.add(first + start, values[start:stop])
