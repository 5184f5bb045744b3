"""The Jaccard distance of k-reciprocal encodings.

d(i, j) = 1 - s / (2 - s), where s is the sum over all samples of the lesser of the weights that i and j give
them (`reciprocal_encoding`). Each row of weights sums to 1, so that s is the intersection of two weighted
sets and 2 - s their union. A pair whose rows share no sample is at distance 1 and is never looked at.

Shapes: N samples.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nplp.clustering.reciprocal import SparseRows
from nplp.clustering.sweep import (
    PairSink,
    Progress,
    Shares,
    SparseDistances,
    compiled,
    row_blocks,
    run_blocks,
)

__all__ = ["entries_by_column", "jaccard_distances"]

_BLOCK_ROWS = 128
_MIN_BUFFER = 1 << 18
_SCALE = 1e12
"""Distances are whole multiples of 1 / this: those that differ by the rounding of sums only become equal."""


def jaccard_distances(rows: SparseRows, progress: Progress | None = None) -> SparseDistances:
    """Return the Jaccard distances among the N rows of weights of `reciprocal_encoding`.

    Args:
        rows: weights of N samples.
        progress: shows a bar each time that pairs are found.

    Memory: 24 bytes an entry of the rows, what `SparseDistances` holds, and some 5 MB a thread.
    """
    by_row = (rows.starts, rows.columns, rows.weights)
    by_column = entries_by_column(*by_row)

    def find(sink: PairSink, shares: Shares) -> None:
        # Later rows have fewer pairs: each worker takes every so manyth block.
        own_blocks = row_blocks(len(rows), _BLOCK_ROWS)[shares.number :: shares.count]
        with (progress or Progress()).step("Jaccard distances", len(rows) // shares.count) as advance:

            def make_worker() -> Callable[[tuple[int, int]], None]:
                size = max(_MIN_BUFFER, len(rows))
                first, second = (np.empty(size, dtype=np.int32) for _ in range(2))
                distance, workspace = np.empty(size), np.zeros(len(rows))

                def work(block: tuple[int, int]) -> None:
                    start = block[0]
                    while start < block[1]:
                        start, found = _pairs_below_one(
                            start, block[1], by_row, by_column, workspace, first, second, distance
                        )
                        near = np.flatnonzero(distance[:found] <= sink.bound)
                        sink.add(first[near], second[near], distance[near])
                    advance(block[1] - block[0])

                return work

            run_blocks(own_blocks, make_worker)

    return SparseDistances(len(rows), find)


@compiled()
def entries_by_column(starts, columns, weights):  # type: ignore[no-untyped-def]
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
def _pairs_below_one(start, stop, by_row, by_column, workspace, first, second, distance):  # type: ignore[no-untyped-def]
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
            # The equation at the top of this module.
            value = np.rint(max(1 - shared / (2 - shared), 0.0) * _SCALE) / _SCALE
            if value < 1:
                first[found] = i
                second[found] = j
                distance[found] = value
                found += 1
    return stop, found
