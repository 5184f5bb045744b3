"""The candidates for the nearest neighbours of every sample, all others or those inside or outside its group.

A sample keeps the few dozen candidates that may be among its nearest, given the error of the products, and
settles them by their differences.

Shapes: N samples, k neighbours, C candidates, R x C pairs of a tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

import numpy as np
import torch

from nplp.clustering.sweep.compiling import compiled
from nplp.clustering.sweep.device_tiles import nearest_bounds, within_reach
from nplp.clustering.sweep.features import squared_distance
from nplp.clustering.sweep.groups import Groups
from nplp.clustering.sweep.parallel import row_blocks, run_blocks
from nplp.clustering.sweep.shares import ALONE, Shares, own_range
from nplp.clustering.sweep.tiles import Product, Tile, TileSource

__all__ = ["Candidates", "segments", "segments_held"]

_CANDIDATES = 4
_MIN_CANDIDATES = 48
_SEGMENT = 1024


class Candidates:
    """The candidates for the nearest neighbours of each sample, inside its group or outside it.

    An entry is a pair of float64. The first is the scaled squared distance or a lower bound of it, the second
    the index of the candidate, or -1 - index where the distance is settled. Both are in one array, so that
    writing an entry costs one cache miss. Entries are kept by place, in the order of the groups.
    """

    def __init__(self, source: TileSource, k: int, groups: Groups | None = None, inside: bool = True) -> None:
        """Begin without a pair.

        Args:
            source: of the products of N samples.
            k: neighbours that are looked for.
            groups: the order of the sweep whose tiles are offered; None for one group in the samples' order.
            inside: whether pairs of one group count, or those of two.
        """
        count = len(source)
        size = min(max(_CANDIDATES * k, _MIN_CANDIDATES), count + 1)
        self.source = source
        self._k = k
        self._groups = Groups.single(count) if groups is None else groups
        self._inside = inside
        self._entries = np.zeros((count, size, 2))
        # Each sample is the first candidate of its own, at a distance that is settled.
        self._entries[:, 0, 1] = -1 - self._groups.samples
        self._number = np.full(count, inside, dtype=np.int32)
        self._reach = np.full(count, np.inf, dtype=np.float32)
        # What a product gives less its possible error: n_i + n_j - 2 p - slope (n_i + n_j) - floor.
        lower_norms = ((1 - source.slope) * source.norms - source.floor / 2).astype(np.float32)
        self._lower_norms = lower_norms[self._groups.samples]
        self._locks = [Lock() for _ in range(0, count, _SEGMENT)]

    @property
    def _state(self) -> tuple[np.ndarray, ...]:
        return self._entries, self._number, self._reach

    @property
    def _truth(self) -> tuple[object, ...]:
        """What settles a distance: the features, norms, squared scale, slope, floor and samples by place."""
        source, samples = self.source, self._groups.samples
        return *source.features.arrays, source.norms, source.scale**2, source.slope, source.floor, samples

    def offer(self, tile: Tile, product: Product) -> Callable[[], None]:
        """Return what offers the pairs of a tile that count to both of their samples."""
        if self._groups.same(tile) is (not self._inside):
            return _offer_nothing
        rows, columns = slice(tile.row, tile.row_stop), slice(tile.column, tile.column_stop)
        hits = self._hits(tile, product) if isinstance(product, torch.Tensor) else None

        def offer() -> None:
            with segments_held(self._locks, rows, columns):
                if hits is not None:
                    _offer_pairs(*hits, self._k, self._state, self._truth)
                else:
                    _offer_tile(
                        product, tile.row, tile.column, tile.on_diagonal, self._lower_norms, self._k,
                        self._groups.arrays, self._inside, self._state, self._truth,
                    )  # fmt: skip

        return offer

    def _hits(self, tile: Tile, product: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the places of the pairs of a tile that may be neighbours, and their least distances."""
        ranges = (slice(tile.row, tile.row_stop), slice(tile.column, tile.column_stop))
        norms = [self.source.norms[self._groups.samples[part]].astype(np.float32) for part in ranges]
        reach = [self._reach[part].copy() for part in ranges]
        counted = None
        if self._groups.same(tile) is None:
            groups = [torch.from_numpy(self._groups.starts[part]).to(product.device) for part in ranges]
            counted = (groups[0][:, None] == groups[1]) == self._inside
        if any(np.isinf(part).any() for part in reach):
            # Without it all pairs of a sample's first tile would be offered one by one.
            error = (self.source.slope, self.source.floor)
            bounds = nearest_bounds(product, (norms[0], norms[1]), error, self._k + 1, counted)
            reach = [np.minimum(part, bound) for part, bound in zip(reach, bounds, strict=True)]
        lower_norms = (self._lower_norms[ranges[0]], self._lower_norms[ranges[1]])
        first, second, lower = within_reach(
            product, lower_norms, (reach[0], reach[1]), tile.on_diagonal, counted
        )
        return first + tile.row, second + tile.column, lower

    def tighten(self, shares: Shares) -> None:
        """Take from each worker how far the neighbours of its own samples can be at most.

        Called when each worker has offered all pairs among the places that it owns, see `own_range`.
        """
        own = own_range(shares, len(self._number))
        _tighten(own.start, own.stop, self._k, self._state, self._truth)
        self._reach[:] = shares.gathered(self._reach[own])

    def nearest(self, shares: Shares = ALONE) -> np.ndarray:
        """Return the nearest neighbours [N, k] int32 after all pairs were offered; -1 for none.

        Args:
            shares: this worker, where the pairs were offered to several. Each then settles the candidates
                that all have for the places that it owns, and all get the whole.
        """
        result = np.full((len(self._number), self._k), -1, dtype=np.int32)
        if shares.count == 1:
            self._settle_all(self._state, self._groups.samples, result)
            return result
        samples = self._groups.samples[own_range(shares, len(result))]
        self._settle_all(self._brought_together(shares), samples, result)
        result[self._groups.samples] = shares.gathered(result[samples])
        return result

    def _settle_all(self, state: tuple[np.ndarray, ...], samples: np.ndarray, result: np.ndarray) -> None:
        """Write the nearest of `samples` [M] to their rows of `result` [N, k], from their candidates."""
        truth = (*self._truth[:-1], samples)

        def work(block: tuple[int, int]) -> None:
            _finish(*block, self._k, state, truth, result)

        run_blocks(row_blocks(len(samples), _SEGMENT), lambda: work)

    def _brought_together(self, shares: Shares) -> tuple[np.ndarray, ...]:
        """Return the candidates that all workers have for the M places that this one owns."""
        _drop_beyond_reach(self._state)
        own = own_range(shares, len(self._number))
        sent = self._number.copy()
        sent[own] = 0
        width = int(shares.largest(np.array([sent.max(initial=0)]))[0])
        entries, number = shares.swapped(self._entries[:, :width]), shares.swapped(sent)
        room = self._entries.shape[1] + (shares.count - 1) * width
        together, count = np.zeros((number.shape[1], room, 2)), self._number[own].copy()
        together[:, : self._entries.shape[1]] = self._entries[own]
        _join(entries, number, self._groups.samples[own], together, count)
        return together, count, self._reach[own]


def _offer_nothing() -> None:
    """Keep nothing of a tile."""


@compiled(error_model="numpy")
def _offer_tile(  # type: ignore[no-untyped-def]
    product, row_start, column_start, diagonal, lower_norms, k, groups, inside, state, truth
):
    entries, number, reach = state
    samples, starts, stops = groups
    height, width = product.shape
    columns = slice(column_start, column_start + width)
    column_norms, column_reach = lower_norms[columns], reach[columns]
    for row in range(height):
        i, cells = row_start + row, product[row]
        norm, row_reach = lower_norms[i], reach[i]
        first = row + 1 if diagonal else 0
        # The columns of the row's group, which are those that count or those that do not.
        begin = min(max(starts[i] - column_start, first), width)
        end = min(max(stops[i] - column_start, begin), width)
        for low, high in ((begin, end), (end, end)) if inside else ((first, begin), (end, width)):
            for column in range(low, high):
                lower = norm + column_norms[column] - np.float32(2) * cells[column]
                if lower <= max(row_reach, column_reach[column]):
                    j = column_start + column
                    if lower <= row_reach and _append(i, samples[j], lower, k, entries, number, reach):
                        _make_room(i, k, state, truth)
                        row_reach = reach[i]
                    if lower <= column_reach[column] and _append(
                        j, samples[i], lower, k, entries, number, reach
                    ):
                        _make_room(j, k, state, truth)


def segments(samples: slice) -> set[int]:
    """Return the locks that a range of samples needs."""
    return set(range(samples.start // _SEGMENT, (samples.stop - 1) // _SEGMENT + 1))


@contextmanager
def segments_held(locks: list[Lock], rows: slice, columns: slice) -> Iterator[None]:
    """Hold the locks of both ranges of a tile's samples, of `locks`, one a segment, within the block."""
    with ExitStack() as held:
        # In one order for all threads, so that none waits for another in a circle.
        for segment in sorted(segments(rows) | segments(columns)):
            held.enter_context(locks[segment])
        yield


@compiled(error_model="numpy")
def _offer_pairs(first, second, lower, k, state, truth):  # type: ignore[no-untyped-def]
    entries, number, reach = state
    samples = truth[7]
    for pair in range(len(first)):
        i, j = first[pair], second[pair]
        if lower[pair] <= reach[i] and _append(i, samples[j], lower[pair], k, entries, number, reach):
            _make_room(i, k, state, truth)
        if lower[pair] <= reach[j] and _append(j, samples[i], lower[pair], k, entries, number, reach):
            _make_room(j, k, state, truth)


@compiled(error_model="numpy")
def _append(i, other, lower, k, entries, number, reach):  # type: ignore[no-untyped-def]
    """Add the sample `other` to the candidates at place i, and tell whether they are full."""
    size = number[i]
    # Once k candidates are exact copies of the sample, only a lower index can still count.
    if reach[i] == 0 and size >= k:
        last, code = entries[i, k - 1]
        if last == 0 and code < 0 and other > -1 - code:
            return False
    entries[i, size, 0] = lower
    entries[i, size, 1] = other
    number[i] = size + 1
    return size + 1 == entries.shape[1]


@compiled(error_model="numpy")
def _make_room(i, k, state, truth):  # type: ignore[no-untyped-def]
    """Drop candidates at place i; settle distances where products leave too many."""
    entries, number, reach = state
    _narrow(i, k, state, truth)
    if 2 * number[i] > entries.shape[1] + k:
        _settle(i, k, state, truth)
        reach[i] = min(reach[i], np.float32(entries[i, k - 1, 0] * (1 + 2.0**-22)))


@compiled(error_model="numpy")
def _narrow(i, k, state, truth):  # type: ignore[no-untyped-def]
    """Drop the candidates that k others are surely nearer than."""
    entries, number, reach = state
    norms, slope, floor, own = truth[3], truth[5], truth[6], truth[7][i]
    size = number[i]
    upper = np.empty(size)
    for place in range(size):
        value, code = entries[i, place]
        if code >= 0:
            value += 2 * (slope * (norms[own] + norms[int(code)]) + floor)
        upper[place] = value
    limit = _kth_smallest(upper, k)
    kept = 0
    for place in range(size):
        value, code = entries[i, place]
        if value <= limit:
            entries[i, kept, 0] = value
            entries[i, kept, 1] = code
            kept += 1
    number[i] = kept
    # Of a shared pass another worker may know of nearer ones.
    reach[i] = min(reach[i], np.float32(limit * (1 + 2.0**-22)))


@compiled(error_model="numpy")
def _kth_smallest(values, k):  # type: ignore[no-untyped-def]
    """Return the k-th smallest of values, which are left in another order."""
    low, high = 0, len(values) - 1
    while low < high:
        pivot = values[(low + high) // 2]
        left, right = low, high
        while left <= right:
            while values[left] < pivot:
                left += 1
            while values[right] > pivot:
                right -= 1
            if left <= right:
                values[left], values[right] = values[right], values[left]
                left += 1
                right -= 1
        if k - 1 <= right:
            high = right
        elif k - 1 >= left:
            low = left
        else:
            break
    return values[k - 1]


@compiled(error_model="numpy")
def _settle(i, k, state, truth):  # type: ignore[no-untyped-def]
    """Keep the k nearest candidates by their exact distances, nearest first and ties by index."""
    entries, number, _ = state
    values, offsets, groups, squared_scale, own = truth[0], truth[1], truth[2], truth[4], truth[7][i]
    size = number[i]
    for place in range(size):
        value, code = entries[i, place]
        if code >= 0:
            value = squared_distance(values, offsets, groups, own, int(code)) * squared_scale
            code = -1 - code
        # Insertion into the ones before; a greater code is a lower index.
        before = place - 1
        while before >= 0:
            nearer, other = entries[i, before]
            if nearer < value or (nearer == value and other > code):
                break
            entries[i, before + 1, 0] = nearer
            entries[i, before + 1, 1] = other
            before -= 1
        entries[i, before + 1, 0] = value
        entries[i, before + 1, 1] = code
    number[i] = min(size, k)


@compiled(error_model="numpy")
def _finish(start, stop, k, state, truth, result):  # type: ignore[no-untyped-def]
    """Write the k nearest of the samples at start..stop-1, or as many as were offered."""
    entries, number, _ = state
    for i in range(start, stop):
        found = min(k, number[i])
        if found == 0:
            continue
        _narrow(i, found, state, truth)
        _settle(i, found, state, truth)
        for place in range(found):
            result[truth[7][i], place] = -1 - int(entries[i, place, 1])


@compiled(error_model="numpy")
def _tighten(start, stop, k, state, truth):  # type: ignore[no-untyped-def]
    """Lower the reach of places start..stop-1 to what their candidates allow."""
    for i in range(start, stop):
        if state[1][i] >= k:
            _narrow(i, k, state, truth)


@compiled()
def _drop_beyond_reach(state):  # type: ignore[no-untyped-def]
    """Drop all candidates that are surely farther than the reach of their place."""
    entries, number, reach = state
    for i in range(len(number)):
        kept = 0
        for place in range(number[i]):
            if entries[i, place, 0] <= reach[i]:
                entries[i, kept] = entries[i, place]
                kept += 1
        number[i] = kept


@compiled()
def _join(entries, number, samples, together, count):  # type: ignore[no-untyped-def]
    """Add the candidates [W, M, C] of each place to those that are there, but for the sample itself."""
    for worker in range(len(entries)):
        for i in range(len(samples)):
            for place in range(number[worker, i]):
                if entries[worker, i, place, 1] != -1 - samples[i]:
                    together[i, count[i]] = entries[worker, i, place]
                    count[i] += 1
