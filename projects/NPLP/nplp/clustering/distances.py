"""What the pseudo-label stage asks of a distance, whichever it is.

Shapes: N samples, P pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Protocol

import numpy as np

__all__ = [
    "Distances",
    "EdgeVisitor",
    "HeldPairs",
    "PairSink",
    "PairVisitor",
    "PairsPassedOn",
    "camera_groups",
]

EdgeVisitor = Callable[[np.ndarray, np.ndarray], object]
"""Takes the two samples of pairs: two integer arrays [P], the lower sample first."""

PairVisitor = Callable[[np.ndarray, np.ndarray, np.ndarray], object]
"""Takes the same and the distances [P] float64."""

_MIN_PAIRS = 1 << 18
_PAIRS_PER_SAMPLE = 256


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

    def visit_edges(self, epsilon: float, visit: EdgeVisitor) -> None:
        """Give all pairs i < j at a distance of at most `epsilon` to `visit`, each once, in blocks.

        Blocks come in no particular order, but never two at a time.
        """

    def all_within(self, epsilon: float) -> bool:
        """Tell whether all pairs are known to be within `epsilon` without looking at them."""

    def cluster_sums(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return sums of distances to the samples of the own cluster and to all clustered samples.

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


def camera_groups(camera_ids: np.ndarray | None, count: int) -> np.ndarray:
    """Return [N] int32 that differ for two samples whose pair counts in eq. 4: of different cameras, or any.

    Args:
        camera_ids: [N] int64, or None for all pairs.
        count: N.
    """
    if camera_ids is None:
        return np.arange(count, dtype=np.int32)
    return np.unique(camera_ids, return_inverse=True)[1].reshape(-1).astype(np.int32)


class PairSink(Protocol):
    """What takes the pairs that a sweep finds."""

    @property
    def bound(self) -> float:
        """The distance up to which pairs are wanted."""

    def add(self, first: np.ndarray, second: np.ndarray, distance: np.ndarray) -> None:
        """Take pairs [P] within the bound, from any thread."""


class PairsPassedOn:
    """Passes the pairs of a sweep on, one block at a time."""

    def __init__(self, bound: float, visit: PairVisitor) -> None:
        """Pass pairs at a distance of at most `bound` to `visit`."""
        self.bound = bound
        self._visit = visit
        self._lock = Lock()

    def add(self, first: np.ndarray, second: np.ndarray, distance: np.ndarray) -> None:
        """Take pairs [P] from any thread."""
        with self._lock:
            self._visit(first, second, distance)


class HeldPairs:
    """The pairs of a pass within a bound, kept for the steps that follow, if they are not too many.

    Memory: 16 bytes a pair, at most 256 pairs a sample (or 262,144); beyond that nothing is held.
    """

    def __init__(self, count: int, bound: float) -> None:
        """Begin to hold pairs among `count` samples at a distance of at most `bound`."""
        self._bound = bound
        self._budget = max(_MIN_PAIRS, _PAIRS_PER_SAMPLE * count)
        self._blocks: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._size = 0
        self._lock = Lock()

    @property
    def overflown(self) -> bool:
        """Whether the pairs were too many to be held."""
        return self._size > self._budget

    @property
    def bound(self) -> float:
        """The distance up to which pairs are wanted, and are here unless `overflown`."""
        return self._bound

    def add(self, first: np.ndarray, second: np.ndarray, distance: np.ndarray) -> None:
        """Take pairs [P] with their distances, from any thread; the arrays are kept."""
        with self._lock:
            self._size += len(first)
            if self.overflown:
                self._blocks = []
            elif len(first):
                self._blocks.append(
                    (first.astype(np.int32, copy=False), second.astype(np.int32, copy=False), distance)
                )

    def blocks(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Return blocks of first sample [P] int32, second sample [P] int32 and distance [P] float64."""
        return self._blocks

    def visit(self, epsilon: float, visit: EdgeVisitor) -> None:
        """Give the pairs within `epsilon`, which is at most `bound`, to `visit`."""
        for first, second, distance in self._blocks:
            within = distance <= epsilon
            visit(first[within], second[within])
