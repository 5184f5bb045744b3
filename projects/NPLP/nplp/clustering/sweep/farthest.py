"""The nearest neighbours of every sample and the distance of its farthest, in one sweep.

A sample keeps the largest distance that was settled so far. A pair whose product, given its error, may be
farther is settled by its difference. Few are: the record rises fast, and then only what is near it counts.

Shapes: N samples, k neighbours, R x C pairs of a tile.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import numpy as np
import torch

from nplp.clustering.sweep.candidates import Candidates, segments, segments_held
from nplp.clustering.sweep.compiling import compiled
from nplp.clustering.sweep.features import FeatureRows, squared_distance
from nplp.clustering.sweep.neighbours import sweep_by_owner
from nplp.clustering.sweep.parallel import Progress
from nplp.clustering.sweep.shares import Shares, current_shares, own_range
from nplp.clustering.sweep.tiles import Product, Tile, TileSource, half_for_all

__all__ = ["nearest_and_farthest"]


def nearest_and_farthest(
    features: FeatureRows, k: int, progress: Progress | None = None, half: bool | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k nearest samples of each sample, and the squared distance of its farthest.

    Args:
        features: N samples.
        k: at least 1; no more than N are returned.
        progress: shows a bar.
        half: multiply in bfloat16, which changes nothing but the time; None where that is faster.

    Returns:
        [N, min(k, N)] int32, as `nearest_neighbours` gives them, and [N] float64, exact but for the rounding
        of float64. Memory: that of `nearest_neighbours` and 16 bytes a sample. Time: that of one sweep, but
        where most pairs are at the greatest distance, as among samples that are all the same, each of them
        is settled one by one.
    """
    shares = current_shares()
    source = TileSource(features, half_for_all(features, half, shares))
    candidates, records = Candidates(source, min(k, len(features))), _Records(source)
    everything, bar = np.arange(len(features)), progress or Progress()
    sweep_by_owner(source, everything, (candidates, records), bar, "nearest and farthest", shares)
    return candidates.nearest(shares), shares.largest(records.farthest)


class _Records:
    """The largest squared distance of each sample so far.

    Attributes:
        farthest: [N] float64, in the features' unit.
    """

    def __init__(self, source: TileSource) -> None:
        count = len(source)
        self.farthest = np.zeros(count)
        self._source = source
        # What a product gives and its possible error: n_i + n_j - 2 p + slope (n_i + n_j) + floor.
        self._upper_norms = ((1 + source.slope) * source.norms + source.floor / 2).astype(np.float32)
        # The record in the products' scale, rounded down, so that no pair above it is passed over.
        self._reach = np.zeros(count, dtype=np.float32)
        self._locks = [Lock() for _ in segments(slice(0, count))]

    def tighten(self, shares: Shares) -> None:
        """Take the records of each worker's own samples, so that fewer pairs can be new ones."""
        own = own_range(shares, len(self.farthest))
        self.farthest[:] = shares.gathered(self.farthest[own])
        self._reach[:] = shares.gathered(self._reach[own])

    def offer(self, tile: Tile, product: Product) -> Callable[[], None]:
        """Return what offers the pairs of a tile to both of their samples."""
        rows, columns = slice(tile.row, tile.row_stop), slice(tile.column, tile.column_stop)
        cells = product.cpu().numpy() if isinstance(product, torch.Tensor) else product
        source = self._source

        def offer() -> None:
            with segments_held(self._locks, rows, columns):
                _offer_far(
                    cells, tile.row, tile.column, tile.on_diagonal, self._upper_norms, self._reach,
                    self.farthest, source.features.arrays, source.scale**2,
                )  # fmt: skip

        return offer


@compiled(error_model="numpy")
def _offer_far(  # type: ignore[no-untyped-def]
    product, row_start, column_start, diagonal, upper_norms, reach, farthest, features, squared_scale
):
    values, offsets, groups = features
    height, width = product.shape
    columns = slice(column_start, column_start + width)
    column_norms, column_reach = upper_norms[columns], reach[columns]
    for row in range(height):
        i, cells = row_start + row, product[row]
        norm, row_reach = upper_norms[i], reach[i]
        for column in range(row + 1 if diagonal else 0, width):
            upper = norm + column_norms[column] - np.float32(2) * cells[column]
            if upper >= min(row_reach, column_reach[column]):
                j = column_start + column
                distance = squared_distance(values, offsets, groups, i, j)
                rounded = np.float32(distance * squared_scale * (1 - 2.0**-22))
                if distance > farthest[i]:
                    farthest[i] = distance
                    reach[i] = row_reach = rounded
                if distance > farthest[j]:
                    farthest[j] = distance
                    reach[j] = rounded
