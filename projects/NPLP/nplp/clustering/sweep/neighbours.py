"""The k nearest neighbours of every sample, among all or by camera, ties by index.

One symmetric sweep offers every pair to both of its samples. A sample keeps the few dozen candidates that may
be among its nearest, given the error of the products, and settles them by their differences.

Shapes: N samples, k neighbours, C candidates, R x C pairs of a tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import Protocol

import numpy as np
import torch

from nplp.clustering.sweep.compiling import compiled
from nplp.clustering.sweep.device_tiles import nearest_bounds, within_reach
from nplp.clustering.sweep.features import FeatureRows, squared_distance
from nplp.clustering.sweep.parallel import Progress, row_blocks, run_blocks
from nplp.clustering.sweep.tiles import Product, Tile, TileSource, half_precision_pays, sweep

__all__ = [
    "Candidates",
    "nearest_by_camera",
    "nearest_neighbours",
    "segments",
    "segments_held",
    "sweep_for_both",
]

_CANDIDATES = 4
_MIN_CANDIDATES = 48
_SEGMENT = 1024
_ANY, _SAME, _OTHER = 0, 1, 2
"""Which pairs are offered: all, those of one camera, or those of two."""


def nearest_neighbours(
    features: FeatureRows, k: int, progress: Progress | None = None, half: bool | None = None
) -> np.ndarray:
    """Return the k nearest samples of each sample, itself among them, nearest first.

    Order is by the float64 distance of the features and, at equal distance, by index: a sample with exact
    duplicates of lower index is not the first of its own list, and may be missing from it.

    Args:
        features: N samples.
        k: at least 1; no more than N are returned.
        progress: shows a bar.
        half: multiply in bfloat16, which changes nothing but the time; None where that is faster.

    Returns:
        [N, min(k, N)] int32. Memory: 16 bytes for each of 4 k candidates a sample (at least 48) and tiles
        of some 20 MB a thread.
    """
    k = min(k, len(features))
    if half is None:
        half = half_precision_pays(features)
    candidates = Candidates(TileSource(features, half), k)
    everything = np.arange(len(features))
    sweep(candidates.source, everything, None, lambda: candidates.offer, progress or Progress(), "neighbours")
    return candidates.nearest()


def nearest_by_camera(
    features: FeatureRows,
    camera_ids: np.ndarray,
    k_same: int,
    k_other: int,
    progress: Progress | None = None,
    half: bool | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest samples of each sample in its own camera, and those in all other cameras.

    The order in a list is that of `nearest_neighbours`. Both lists come from one sweep.

    Args:
        features: N samples.
        camera_ids: [N] int64.
        k_same: at least 1, samples of the own camera, itself among them.
        k_other: at least 1, samples of other cameras.
        progress: shows a bar.
        half: multiply in bfloat16, which changes nothing but the time; None where that is faster.

    Returns:
        [N, min(k_same, N)] and [N, min(k_other, N)] int32, nearest first; -1 at the end of a row where there
        are fewer such samples. Memory: twice that of `nearest_neighbours`.
    """
    if half is None:
        half = half_precision_pays(features)
    source = TileSource(features, half)
    cameras = np.unique(camera_ids, return_inverse=True)[1].reshape(-1).astype(np.int32)
    kinds = ((k_same, _SAME), (k_other, _OTHER))
    same, other = (Candidates(source, min(k, len(features)), cameras, pairs) for k, pairs in kinds)
    sweep_for_both(source, (same, other), progress or Progress(), "neighbours by camera")
    return same.nearest(), other.nearest()


class TakesTiles(Protocol):
    """What looks at every tile of a sweep."""

    def offer(self, tile: Tile, product: Product) -> Callable[[], None]:
        """Return what offers the pairs of a tile."""


def sweep_for_both(
    source: TileSource, takers: tuple[TakesTiles, TakesTiles], progress: Progress, what: str
) -> None:
    """Show each tile of all pairs to two takers, so that its product is made once.

    Args:
        source: of the products of N samples.
        takers: of the tiles.
        progress: shows a bar.
        what: the bar's text.
    """

    def offer(tile: Tile, product: Product) -> Callable[[], None]:
        offers = [taker.offer(tile, product) for taker in takers]

        def offer_both() -> None:
            for keep in offers:
                keep()

        return offer_both

    sweep(source, np.arange(len(source)), None, lambda: offer, progress, what)


class Candidates:
    """The candidates for the nearest neighbours of each sample.

    An entry is a pair of float64. The first is the scaled squared distance or a lower bound of it, the second
    the index of the candidate, or -1 - index where the distance is settled. Both are in one array, so that
    writing an entry costs one cache miss.
    """

    def __init__(
        self, source: TileSource, k: int, cameras: np.ndarray | None = None, pairs: int = _ANY
    ) -> None:
        """Begin without a pair.

        Args:
            source: of the products of N samples.
            k: neighbours that are looked for.
            cameras: [N] int32; None where all pairs count.
            pairs: which pairs count.
        """
        count = len(source)
        size = min(max(_CANDIDATES * k, _MIN_CANDIDATES), count + 1)
        self.source = source
        self._k = k
        self._cameras = np.zeros(count, dtype=np.int32) if cameras is None else cameras
        self._pairs = pairs
        self._entries = np.zeros((count, size, 2))
        # Each sample is the first candidate of its own, at a distance that is settled.
        self._entries[:, 0, 1] = -1 - np.arange(count)
        self._number = np.full(count, pairs != _OTHER, dtype=np.int32)
        self._reach = np.full(count, np.inf, dtype=np.float32)
        # What a product gives less its possible error: n_i + n_j - 2 p - slope (n_i + n_j) - floor.
        self._lower_norms = ((1 - source.slope) * source.norms - source.floor / 2).astype(np.float32)
        self._locks = [Lock() for _ in range(0, count, _SEGMENT)]

    @property
    def _state(self) -> tuple[np.ndarray, ...]:
        return self._entries, self._number, self._reach

    @property
    def _truth(self) -> tuple[object, ...]:
        """What settles a distance: the features, norms, squared scale, slope and floor."""
        source = self.source
        return *source.features.arrays, source.norms, source.scale**2, source.slope, source.floor

    def offer(self, tile: Tile, product: Product) -> Callable[[], None]:
        """Return what offers the pairs of a tile to both of their samples."""
        rows, columns = slice(tile.row, tile.row_stop), slice(tile.column, tile.column_stop)
        hits = self._hits(tile, product) if isinstance(product, torch.Tensor) else None

        def offer() -> None:
            with segments_held(self._locks, rows, columns):
                if hits is not None:
                    _offer_pairs(*hits, self._k, self._state, self._truth)
                else:
                    _offer_tile(
                        product, tile.row, tile.column, tile.on_diagonal, self._lower_norms, self._k,
                        self._cameras, self._pairs, self._state, self._truth,
                    )  # fmt: skip

        return offer

    def _hits(self, tile: Tile, product: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the samples of the pairs of a tile that may be neighbours, and their least distances."""
        ranges = (slice(tile.row, tile.row_stop), slice(tile.column, tile.column_stop))
        norms = [self.source.norms[part].astype(np.float32) for part in ranges]
        reach = [self._reach[part].copy() for part in ranges]
        counted = None
        if self._pairs != _ANY:
            cameras = [torch.from_numpy(self._cameras[part]).to(product.device) for part in ranges]
            counted = (cameras[0][:, None] == cameras[1]) == (self._pairs == _SAME)
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

    def nearest(self) -> np.ndarray:
        """Return the nearest neighbours [N, k] int32 after all pairs were offered; -1 for none."""
        result = np.full((len(self._number), self._k), -1, dtype=np.int32)

        def work(block: tuple[int, int]) -> None:
            _finish(*block, self._k, self._state, self._truth, result)

        run_blocks(row_blocks(len(result), _SEGMENT), lambda: work)
        return result


@compiled(error_model="numpy")
def _offer_tile(  # type: ignore[no-untyped-def]
    product, row_start, column_start, diagonal, lower_norms, k, cameras, pairs, state, truth
):
    entries, number, reach = state
    height, width = product.shape
    columns = slice(column_start, column_start + width)
    column_norms, column_reach = lower_norms[columns], reach[columns]
    for row in range(height):
        i, cells = row_start + row, product[row]
        norm, row_reach = lower_norms[i], reach[i]
        for column in range(row + 1 if diagonal else 0, width):
            lower = norm + column_norms[column] - np.float32(2) * cells[column]
            if lower <= max(row_reach, column_reach[column]):
                j = column_start + column
                if pairs != _ANY and (cameras[i] == cameras[j]) != (pairs == _SAME):
                    continue
                if lower <= row_reach and _append(i, j, lower, k, entries, number, reach):
                    _make_room(i, k, state, truth)
                    row_reach = reach[i]
                if lower <= column_reach[column] and _append(j, i, lower, k, entries, number, reach):
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
    for pair in range(len(first)):
        i, j = first[pair], second[pair]
        if lower[pair] <= reach[i] and _append(i, j, lower[pair], k, entries, number, reach):
            _make_room(i, k, state, truth)
        if lower[pair] <= reach[j] and _append(j, i, lower[pair], k, entries, number, reach):
            _make_room(j, k, state, truth)


@compiled(error_model="numpy")
def _append(sample, other, lower, k, entries, number, reach):  # type: ignore[no-untyped-def]
    """Add a candidate to those of a sample, and tell whether they are full."""
    size = number[sample]
    # Once k candidates are exact copies of the sample, only a lower index can still count.
    if reach[sample] == 0 and size >= k:
        last, code = entries[sample, k - 1]
        if last == 0 and code < 0 and other > -1 - code:
            return False
    entries[sample, size, 0] = lower
    entries[sample, size, 1] = other
    number[sample] = size + 1
    return size + 1 == entries.shape[1]


@compiled(error_model="numpy")
def _make_room(sample, k, state, truth):  # type: ignore[no-untyped-def]
    """Drop candidates of a sample; settle distances where products leave too many."""
    entries, number, reach = state
    _narrow(sample, k, state, truth)
    if 2 * number[sample] > entries.shape[1] + k:
        _settle(sample, k, state, truth)
        reach[sample] = np.float32(entries[sample, k - 1, 0] * (1 + 2.0**-22))


@compiled(error_model="numpy")
def _narrow(sample, k, state, truth):  # type: ignore[no-untyped-def]
    """Drop the candidates that k others are surely nearer than."""
    entries, number, reach = state
    norms, slope, floor = truth[3], truth[5], truth[6]
    size = number[sample]
    upper = np.empty(size)
    for place in range(size):
        value, code = entries[sample, place]
        if code >= 0:
            value += 2 * (slope * (norms[sample] + norms[int(code)]) + floor)
        upper[place] = value
    limit = _kth_smallest(upper, k)
    kept = 0
    for place in range(size):
        value, code = entries[sample, place]
        if value <= limit:
            entries[sample, kept, 0] = value
            entries[sample, kept, 1] = code
            kept += 1
    number[sample] = kept
    reach[sample] = np.float32(limit * (1 + 2.0**-22))


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
def _settle(sample, k, state, truth):  # type: ignore[no-untyped-def]
    """Keep the k nearest candidates by their exact distances, nearest first and ties by index."""
    entries, number, _ = state
    values, offsets, groups, squared_scale = truth[0], truth[1], truth[2], truth[4]
    size = number[sample]
    for place in range(size):
        value, code = entries[sample, place]
        if code >= 0:
            value = squared_distance(values, offsets, groups, sample, int(code)) * squared_scale
            code = -1 - code
        # Insertion into the ones before; a greater code is a lower index.
        before = place - 1
        while before >= 0:
            nearer, other = entries[sample, before]
            if nearer < value or (nearer == value and other > code):
                break
            entries[sample, before + 1, 0] = nearer
            entries[sample, before + 1, 1] = other
            before -= 1
        entries[sample, before + 1, 0] = value
        entries[sample, before + 1, 1] = code
    number[sample] = min(size, k)


@compiled(error_model="numpy")
def _finish(start, stop, k, state, truth, result):  # type: ignore[no-untyped-def]
    """Write the k nearest of samples start..stop-1, or as many as were offered."""
    entries, number, _ = state
    for sample in range(start, stop):
        found = min(k, number[sample])
        if found == 0:
            continue
        _narrow(sample, found, state, truth)
        _settle(sample, found, state, truth)
        for place in range(found):
            result[sample, place] = -1 - int(entries[sample, place, 1])
