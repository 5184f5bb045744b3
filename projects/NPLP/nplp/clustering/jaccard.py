"""Jaccard distances of k-reciprocal encodings; the pairs that share nothing are never looked at.

Shapes: N samples, P pairs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nplp.clustering.compiling import compiled
from nplp.clustering.distances import (
    EdgeVisitor,
    NearPairs,
    PairSink,
    PairVisitor,
    camera_groups,
)
from nplp.clustering.parallel import Progress, row_blocks, run_blocks
from nplp.clustering.reciprocal import SparseRows
from nplp.clustering.results import OUTLIER
from nplp.clustering.smallest import Bracket, MeanOfSmallest

__all__ = ["JaccardDistances"]

_BLOCK_ROWS = 128
_MIN_BUFFER = 1 << 18
_SCALE = 1e12
"""Distances are whole multiples of 1 / this: what differs by the rounding of sums only is equal."""
_UNIT = 2.0**-40
"""Sums are kept in whole multiples of this, the same in whatever order they are made."""


class JaccardDistances:
    """Jaccard distances 1 - s / (2 - s), s = sum of the minima of two rows of weights, clipped at 0.

    A pair whose rows share no sample has distance 1 and is never stored or looked at. The others are made
    once and held if they are few enough (see `NearPairs`), otherwise each time they are needed.

    Memory: 24 bytes an entry of the rows of weights, what is held, and some 5 MB a thread.
    """

    def __init__(self, rows: SparseRows, progress: Progress | None = None) -> None:
        """Take the rows of weights of `reciprocal_encoding`."""
        self._rows = rows
        self._progress = progress or Progress()
        self._columns = _by_column(rows.starts, rows.columns, rows.weights)
        self._pairs = NearPairs(len(rows), self._make_pairs)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def sums_are_exact(self) -> bool:
        """True."""
        return True

    def all_within(self, epsilon: float) -> bool:
        """Return True from 1 on, the greatest Jaccard distance."""
        return epsilon >= 1

    def mean_of_smallest(self, camera_ids: np.ndarray | None, count: int) -> float:
        """Return the mean of the `count` smallest distances; see `Distances.mean_of_smallest`."""
        groups = camera_groups(camera_ids, len(self))
        present = 0

        def count_present(first: np.ndarray, second: np.ndarray, _: np.ndarray) -> None:
            nonlocal present
            present += int((groups[first] != groups[second]).sum())

        self.visit_overlapping(count_present)
        averaged = min(count, present)
        if not averaged:
            return 1.0
        bracket, near = Bracket(0.0, 1.0), None
        while near is None:
            smallest = MeanOfSmallest(averaged, bracket, 1.0, len(self))
            self.visit_overlapping(_crossing_only(groups, smallest))
            near = smallest.mean()
            bracket = smallest.next_bracket() if near is None else bracket
        share = averaged / count
        return near if share == 1 else near * share + (1 - share)

    def visit_edges(self, epsilon: float, visit: EdgeVisitor) -> None:
        """Give all pairs i < j within `epsilon` to `visit`; see `Distances.visit_edges`.

        Raises:
            ValueError: if epsilon is 1 or more, where all pairs are: see `all_within`.
        """
        if self.all_within(epsilon):
            raise ValueError(f"all pairs are within a Jaccard distance of 1, got epsilon {epsilon}")

        self._pairs.visit(epsilon, lambda first, second, _: visit(first, second))

    def cluster_sums(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return sums to the own cluster and to all clustered samples; see `Distances.cluster_sums`."""
        clustered = labels != OUTLIER
        sizes = np.bincount(labels[clustered], minlength=1)
        shared = np.zeros((2, len(self)), dtype=np.int64)
        self.visit_overlapping(
            lambda first, second, distance: _add_nearness(first, second, distance, labels, shared)
        )
        own = np.where(clustered, sizes[labels] - 1 - shared[0] * _UNIT, 0.0)
        return own, np.where(clustered, clustered.sum() - 1 - shared[1] * _UNIT, 0.0)

    def exact_cluster_sums(self, labels: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what `cluster_sums` does for `members` [M]."""
        own, total = self.cluster_sums(labels)
        return own[members], total[members]

    def visit_overlapping(self, visit: PairVisitor) -> None:
        """Give the pairs i < j that share a sample and their distances, below 1, to `visit` in blocks.

        Blocks come in no particular order, but never two at a time.
        """
        self._pairs.visit(1.0, visit)

    def _make_pairs(self, sink: PairSink) -> None:
        """Make the pairs that share a sample, as far as a sink wants them, by several threads."""
        rows = (self._rows.starts, self._rows.columns, self._rows.weights)
        with self._progress.step("Jaccard distances", len(self)) as advance:

            def make_worker() -> Callable[[tuple[int, int]], None]:
                size = max(_MIN_BUFFER, len(self))
                first, second = (np.empty(size, dtype=np.int32) for _ in range(2))
                distance, workspace = np.empty(size), np.zeros(len(self))

                def work(block: tuple[int, int]) -> None:
                    start = block[0]
                    while start < block[1]:
                        start, found = _overlaps(
                            start, block[1], rows, self._columns, workspace, first, second, distance
                        )
                        near = np.flatnonzero(distance[:found] <= sink.bound)
                        sink.add(first[near], second[near], distance[near])
                    advance(block[1] - block[0])

                return work

            run_blocks(row_blocks(len(self), _BLOCK_ROWS), make_worker)


def _crossing_only(groups: np.ndarray, smallest: MeanOfSmallest) -> PairVisitor:
    """Return what adds the distances of pairs of different groups."""
    return lambda first, second, distance: smallest.add(distance[groups[first] != groups[second]])


@compiled()
def _by_column(starts, columns, weights):  # type: ignore[no-untyped-def]
    """Return the entries of sparse rows by column: starts [N + 1], rows ascending in a column, weights."""
    count = len(starts) - 1
    ends = np.zeros(count + 1, dtype=np.int64)
    for column in columns:
        ends[column + 1] += 1
    ends = np.cumsum(ends)
    following = ends[:-1].copy()
    rows, values = np.empty(len(columns), dtype=np.int32), np.empty(len(columns))
    for row in range(count):
        for entry in range(starts[row], starts[row + 1]):
            place = following[columns[entry]]
            following[columns[entry]] += 1
            rows[place] = row
            values[place] = weights[entry]
    return ends, rows, values


@compiled(error_model="numpy")
def _overlaps(start, stop, by_row, by_column, workspace, first, second, distance):  # type: ignore[no-untyped-def]
    """Write the pairs of rows start..stop-1 with later rows that are nearer than 1, as far as they fit.

    Minima are added up in the order of columns for either sample of a pair.

    Returns:
        The row that comes next, and how many pairs were written.
    """
    starts, columns, weights = by_row
    column_starts, samples, values = by_column
    found = 0
    touched = np.empty(len(workspace), dtype=np.int32)
    for i in range(start, stop):
        if found + len(workspace) - i > len(first):
            return i, found
        size = 0
        for entry in range(starts[i], starts[i + 1]):
            column, weight = columns[entry], weights[entry]
            begin, end = column_starts[column], column_starts[column + 1]
            begin += np.searchsorted(samples[begin:end], i, side="right")
            for place in range(begin, end):
                j, least = samples[place], min(weight, values[place])
                if workspace[j] == 0 and least > 0:
                    touched[size] = j
                    size += 1
                workspace[j] += least
        for j in touched[:size]:
            shared = workspace[j]
            workspace[j] = 0
            value = np.rint(max(1 - shared / (2 - shared), 0.0) * _SCALE) / _SCALE
            if value < 1:
                first[found] = i
                second[found] = j
                distance[found] = value
                found += 1
    return stop, found


@compiled()
def _add_nearness(first, second, distance, labels, shared):  # type: ignore[no-untyped-def]
    """Add 1 - distance of pairs of clustered samples to their sums within and over all clusters [2, N]."""
    for pair in range(len(first)):
        i, j = first[pair], second[pair]
        if labels[i] >= 0 and labels[j] >= 0:
            nearness = np.int64(np.rint((1 - distance[pair]) / _UNIT))
            shared[1, i] += nearness
            shared[1, j] += nearness
            if labels[i] == labels[j]:
                shared[0, i] += nearness
                shared[0, j] += nearness
