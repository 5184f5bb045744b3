"""The k nearest neighbours of every sample, among all or by camera, ties by index.

A symmetric sweep offers every pair to both of its samples; see `Candidates`. By camera, the sweep takes the
samples camera by camera, so that nearly all tiles are of a single camera or of two, and each pair is read for
one of the two lists only.

Shapes: N samples, k neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from nplp.clustering.sweep.candidates import Candidates
from nplp.clustering.sweep.features import FeatureRows
from nplp.clustering.sweep.groups import Groups
from nplp.clustering.sweep.parallel import Progress
from nplp.clustering.sweep.shares import Shares, current_shares, own_range
from nplp.clustering.sweep.tiles import Product, Tile, TileSource, half_for_all, sweep

__all__ = ["nearest_by_camera", "nearest_neighbours", "sweep_by_owner"]


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
    shares = current_shares()
    candidates = Candidates(TileSource(features, half_for_all(features, half, shares)), k)
    everything, bar = np.arange(len(features)), progress or Progress()
    sweep_by_owner(candidates.source, everything, (candidates,), bar, "neighbours", shares)
    return candidates.nearest(shares)


def nearest_by_camera(
    features: FeatureRows,
    camera_ids: np.ndarray,
    k_same: int,
    k_other: int,
    progress: Progress | None = None,
    half: bool | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest samples of each sample in its own camera, and those in all other cameras.

    The order in a list is that of `nearest_neighbours`. Both lists come from one sweep, camera by camera:
    features in a memory-mapped file whose images are not stored so are read in pieces of one row.

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
    shares = current_shares()
    source = TileSource(features, half_for_all(features, half, shares))
    groups, count = Groups.by_camera(camera_ids), len(features)
    same = Candidates(source, min(k_same, count), groups)
    other = Candidates(source, min(k_other, count), groups, inside=False)
    bar = progress or Progress()
    sweep_by_owner(source, groups.samples, (same, other), bar, "neighbours by camera", shares)
    return same.nearest(shares), other.nearest(shares)


class TakesTiles(Protocol):
    """What looks at every tile of a sweep."""

    def offer(self, tile: Tile, product: Product) -> Callable[[], None]:
        """Return what offers the pairs of a tile."""

    def tighten(self, shares: Shares) -> None:
        """Take what the other workers know, when each has offered the pairs among its own places."""


def sweep_by_owner(
    source: TileSource,
    samples: np.ndarray,
    takers: Sequence[TakesTiles],
    progress: Progress,
    what: str,
    shares: Shares,
) -> None:
    """Show each tile of all pairs to some takers, so that its product is made once.

    In a shared sweep a worker takes the pairs among the places that it owns and, when all know how far the
    neighbours of all samples can be, half of the pairs of these places and those of each other worker. So
    nearly all candidates of a sample are collected by its owner, and not by every worker once more.

    Args:
        source: of the products of N samples.
        samples: [N] int64, in the order in which the takers count places.
        takers: of the tiles.
        progress: shows a bar.
        what: the bar's text.
        shares: this worker.
    """

    def visit(rows: slice, columns: slice | None) -> None:
        partners = rows if columns is None else columns

        def offer(tile: Tile, product: Product) -> Callable[[], None]:
            ranges = (tile.row + rows.start, tile.row_stop + rows.start)
            others = (tile.column + partners.start, tile.column_stop + partners.start)
            moved = Tile(*ranges, *others, tile.on_diagonal)
            offers = [taker.offer(moved, product) for taker in takers]

            def offer_to_all() -> None:
                for keep in offers:
                    keep()

            return offer_to_all

        own, other = samples[rows], None if columns is None else samples[columns]
        if len(own) and (other is None or len(other)):
            sweep(source, own, other, lambda: offer, progress, what)

    ranges = [own_range(shares, len(samples), number) for number in range(shares.count)]
    visit(ranges[shares.number], None)
    if shares.count == 1:
        return
    for taker in takers:
        taker.tighten(shares)
    for number in range(shares.count):
        if number != shares.number:
            rows, columns = (ranges[each] for each in sorted((number, shares.number)))
            middle = (rows.start + rows.stop) // 2
            half = (rows.start, middle) if shares.number < number else (middle, rows.stop)
            visit(slice(*half), columns)
