"""Distances among N samples without an N x N array: what eqs. 4-9 read, and what distances are made with.

Eqs. 4-9 and DBSCAN read distances through `Distances` alone, whichever the metric and the device. There are
two kinds: `EuclideanDistances`, and `SparseDistances` for a metric in which most pairs are at distance 1.

The modules below this one hold the machinery: matrix products in tiles, their precision and their error,
devices, threads, compiled kernels, what is kept of a pass over all pairs, and how several processes share a
pass (`Shares`). Nothing outside imports them.

Shapes: N samples, P pairs.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from nplp.clustering.sweep.compiling import compiled
from nplp.clustering.sweep.euclidean import EuclideanDistances
from nplp.clustering.sweep.farthest import nearest_and_farthest
from nplp.clustering.sweep.features import FeatureRows, scaled_by_camera, squared_distance
from nplp.clustering.sweep.neighbours import nearest_by_camera, nearest_neighbours
from nplp.clustering.sweep.pairs import EdgeVisitor, PairSink, PairVisitor
from nplp.clustering.sweep.parallel import Progress, row_blocks, run_blocks
from nplp.clustering.sweep.shares import ALONE, Shares, current_shares, own_part, shared_among
from nplp.clustering.sweep.sparse import SparseDistances

__all__ = [
    "ALONE",
    "Distances",
    "EdgeVisitor",
    "EuclideanDistances",
    "FeatureRows",
    "PairSink",
    "PairVisitor",
    "Progress",
    "Shares",
    "SparseDistances",
    "compiled",
    "current_shares",
    "nearest_and_farthest",
    "nearest_by_camera",
    "nearest_neighbours",
    "own_part",
    "row_blocks",
    "run_blocks",
    "scaled_by_camera",
    "shared_among",
    "squared_distance",
]


class Distances(Protocol):
    """Distances among N samples, as eqs. 4-9 and DBSCAN read them."""

    def __len__(self) -> int:
        """Return N."""

    def mean_of_smallest(self, camera_ids: np.ndarray | None, count: int) -> float:
        """Return the mean of the `count` smallest distances (eq. 4).

        Args:
            camera_ids: [N] int64: pairs of different cameras only; None for all pairs.
            count: at least 1 and at most the number of such pairs.
        """

    def visit_edges(self, epsilon: float, visit: EdgeVisitor) -> None:
        """Call `visit` with all pairs i < j at a distance of at most `epsilon`, each once, in blocks.

        Blocks come in no particular order, but never two at a time.
        """

    def all_within(self, epsilon: float) -> bool:
        """Return whether `epsilon` is at least the greatest distance of the metric."""

    def cluster_sums(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return sums of distances to the samples of the own cluster and to all clustered samples (eqs. 6-7).

        Args:
            labels: [N] int64, -1 for outliers.

        Returns:
            own, total: [N] float64 each, 0 for outliers.
        """

    @property
    def sums_are_exact(self) -> bool:
        """Whether `cluster_sums` are exact but for float64 rounding; otherwise to about 1e-6 of a mean."""

    def exact_cluster_sums(self, labels: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what `cluster_sums` does, exact but for float64 rounding, for `members` [M] int64 only.

        Returns:
            own, total: [M] float64 each. Time: M N distances one by one.
        """
