"""Distances of which only those below 1 are found; all other pairs are at distance 1.

Shapes: N samples, P pairs.
"""

from __future__ import annotations

import numpy as np

from nplp.clustering.sweep.compiling import compiled
from nplp.clustering.sweep.pairs import EdgeVisitor, FindPairs, NearPairs, PairVisitor, camera_groups
from nplp.clustering.sweep.smallest import Bracket, MeanOfSmallest

__all__ = ["SparseDistances"]

_UNIT = 2.0**-40
"""Sums are whole multiples of this, so that they do not depend on the order of the pairs."""


class SparseDistances:
    """Distances in [0, 1] of which few are below 1, such as Jaccard distances.

    The pairs below 1 are found once and held if they are few enough (see `NearPairs`), otherwise found again
    each time they are needed.

    Memory: that of `NearPairs` and `MeanOfSmallest`.
    """

    def __init__(self, count: int, find: FindPairs) -> None:
        """Prepare distances among `count` samples.

        Args:
            count: N.
            find: adds the pairs i < j below 1 and within the bound of a sink to that sink, as far as they are
                a worker's share.
        """
        self._count = count
        self._pairs = NearPairs(count, find)

    def __len__(self) -> int:
        return self._count

    @property
    def sums_are_exact(self) -> bool:
        """True."""
        return True

    def all_within(self, epsilon: float) -> bool:
        """Return True from 1 on, the greatest distance."""
        return epsilon >= 1

    def visit_pairs(self, visit: PairVisitor) -> None:
        """Call `visit` with the pairs i < j below 1 and their distances, in blocks, never two at a time."""
        self._pairs.visit(1.0, visit)

    def mean_of_smallest(self, camera_ids: np.ndarray | None, count: int) -> float:
        """Return the mean of the `count` smallest distances; see `Distances.mean_of_smallest`."""
        groups = camera_groups(camera_ids, len(self))
        below_one = 0

        def count_pairs(first: np.ndarray, second: np.ndarray, _: np.ndarray) -> None:
            nonlocal below_one
            below_one += int((groups[first] != groups[second]).sum())

        self.visit_pairs(count_pairs)
        averaged = min(count, below_one)
        if not averaged:
            return 1.0
        bracket, mean = Bracket(0.0, 1.0), None
        while mean is None:
            smallest = MeanOfSmallest(averaged, bracket, 1.0, len(self))
            self.visit_pairs(_crossing_only(groups, smallest))
            mean = smallest.mean()
            bracket = smallest.next_bracket() if mean is None else bracket
        share = averaged / count
        return mean if share == 1 else mean * share + (1 - share)

    def visit_edges(self, epsilon: float, visit: EdgeVisitor) -> None:
        """Call `visit` with all pairs i < j within `epsilon`; see `Distances.visit_edges`.

        Raises:
            ValueError: if epsilon is 1 or more, where all pairs are within it: see `all_within`.
        """
        if self.all_within(epsilon):
            raise ValueError(f"all pairs are within a distance of 1, got epsilon {epsilon}")
        self._pairs.visit(epsilon, lambda first, second, _: visit(first, second))

    def cluster_sums(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return sums to the own cluster and to all clustered samples; see `Distances.cluster_sums`."""
        clustered = labels >= 0
        sizes = np.bincount(labels[clustered], minlength=1)
        nearness = np.zeros((2, len(self)), dtype=np.int64)
        self.visit_pairs(
            lambda first, second, distance: _add_nearness(first, second, distance, labels, nearness)
        )
        own = np.where(clustered, sizes[labels] - 1 - nearness[0] * _UNIT, 0.0)
        return own, np.where(clustered, clustered.sum() - 1 - nearness[1] * _UNIT, 0.0)

    def exact_cluster_sums(self, labels: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what `cluster_sums` does for `members` [M]."""
        own, total = self.cluster_sums(labels)
        return own[members], total[members]


def _crossing_only(groups: np.ndarray, smallest: MeanOfSmallest) -> PairVisitor:
    """Return what adds the distances of pairs of different groups."""
    return lambda first, second, distance: smallest.add(distance[groups[first] != groups[second]])


@compiled()
def _add_nearness(first, second, distance, labels, nearness):  # type: ignore[no-untyped-def]
    """Add 1 - distance of pairs of clustered samples to the sums within and over all clusters [2, N]."""
    for pair in range(len(first)):
        i, j = first[pair], second[pair]
        if labels[i] >= 0 and labels[j] >= 0:
            near = np.int64(np.rint((1 - distance[pair]) / _UNIT))
            nearness[1, i] += near
            nearness[1, j] += near
            if labels[i] == labels[j]:
                nearness[0, i] += near
                nearness[0, j] += near
