"""What the pseudo-label stage asks of a distance, whichever it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

__all__ = ["Distances", "EdgeBlock", "SmallestValues", "clipped_mean", "cross_camera_mask", "upper_tiles"]

EdgeBlock = tuple[np.ndarray, np.ndarray]
"""Two int64 arrays of one length: the lower and the higher sample of each pair."""


class Distances(Protocol):
    """Distances among N samples, given piece by piece and never as an N x N array."""

    def __len__(self) -> int:
        """N."""

    def mean_of_smallest(self, camera_ids: np.ndarray | None, count: int) -> float:
        """Return the mean of the `count` smallest distances.

        Args:
            camera_ids: [N] int64: pairs of different cameras only; None for all pairs.
            count: at least 1 and at most the number of such pairs.
        """

    def edges_within(self, epsilon: float) -> Iterator[EdgeBlock]:
        """Yield all pairs i < j at a distance of at most `epsilon`, each once, in blocks."""

    def all_within(self, epsilon: float) -> bool:
        """Tell whether all pairs are known to be within `epsilon` without looking at them."""

    def cluster_sums(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return sums of distances to the samples of the own cluster and to all clustered samples.

        Args:
            labels: [N] int64, -1 for outliers.

        Returns:
            own, total: [N] float64 each, 0 for outliers.
        """

    def subset(self, members: np.ndarray) -> Distances:
        """Return the same distances among the samples `members` [M] int64, ascending."""


def clipped_mean(values: np.ndarray) -> float:
    """Return the mean of values [P], kept within their range.

    The rounding of a mean can put it one unit in the last place below equal values, and DBSCAN would then
    not link the very pairs that were averaged. Sorting makes the sum independent of the order of the pairs.
    """
    ordered = np.sort(values)
    return float(np.clip(ordered.mean(), ordered[0], ordered[-1]))


def cross_camera_mask(camera_ids: np.ndarray | None, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Tell which pairs [P] are of different cameras; all of them where `camera_ids` is None."""
    if camera_ids is None:
        return np.ones(len(first), dtype=bool)
    return camera_ids[first] != camera_ids[second]


def upper_tiles(count: int, rows: int, columns: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield tiles (row start, row stop, column start, column stop) that cover the pairs i <= j < count."""
    for row in range(0, count, rows):
        for column in range(row, count, columns):
            yield row, min(row + rows, count), column, min(column + columns, count)


class SmallestValues:
    """The `count` smallest of the values added so far, in a buffer of at most twice as many and one block."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._parts: list[np.ndarray] = []
        self._size = 0
        self._bound = np.inf

    def add(self, values: np.ndarray) -> None:
        """Take values [P]; drop what cannot be among the smallest."""
        near = values[values <= self._bound]
        self._parts.append(near)
        self._size += len(near)
        if self._size > 2 * self._count:
            self._parts = [self.smallest()]
            self._size = len(self._parts[0])
            self._bound = float(self._parts[0].max())

    def smallest(self) -> np.ndarray:
        """Return the smallest values, `count` of them or all there are, in no particular order."""
        values = np.concatenate([np.empty(0), *self._parts])
        if len(values) <= self._count:
            return values
        return np.partition(values, self._count - 1)[: self._count]
