"""k-reciprocal encoding on sparse rows.

Zhong et al., "Re-ranking person re-identification with k-reciprocal encoding", CVPR 2017, in the form that
unsupervised re-identification uses it: no mixture with the original distance, neighbours among the samples
themselves, each its own first neighbour.

Shapes: N samples, k1 neighbours, M rows of a block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nplp.clustering.sweep import (
    FeatureRows,
    Progress,
    compiled,
    current_shares,
    nearest_and_farthest,
    nearest_neighbours,
    own_part,
    row_blocks,
    run_blocks,
    squared_distance,
)

__all__ = [
    "SparseRows",
    "average_over",
    "encode_sets",
    "mutual_neighbours",
    "reciprocal_encoding",
    "relative_encoding",
]

_BLOCK_ENTRIES = 1 << 19
_MOST_ROWS = 512


@dataclass(frozen=True)
class SparseRows:
    """Rows of a sparse matrix [N, N], columns ascending within a row.

    Attributes:
        starts: [N + 1] int64, where each row begins in the other two.
        columns: [entries] int32.
        weights: [entries] float64, positive.
    """

    starts: np.ndarray
    columns: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1


def reciprocal_encoding(
    features: FeatureRows, k1: int, k2: int, progress: Progress | None = None
) -> SparseRows:
    """Return each sample's weights over its expanded k-reciprocal neighbours, averaged over k2 neighbours.

    1. R(i): the samples among the k1 nearest of i that have i among theirs (a sample is its own nearest).
    2. Expansion: R(i) joined by the half-size set of each candidate in it, taken over round(k1 / 2) + 1
       neighbours, if more than two thirds of that set are in R(i).
    3. Weights: softmax of the negative squared Euclidean distances over the expanded set.
    4. Local query expansion: the mean of the weights of the k2 nearest samples, i itself among them.

    Args:
        features: N samples.
        k1: neighbours that the sets are taken from; more than N count as N.
        k2: neighbours averaged over; more than k1 count as k1.
        progress: shows a bar.

    Returns:
        About 50 to 100 entries a row at k1 = 20. A row is empty only if k2 is 1 and the sample has k1 or more
        exact duplicates of lower index.
    """
    ranks = nearest_neighbours(features, k1, progress)
    half = min(int(np.around(k1 / 2)) + 1, ranks.shape[1])
    encoded = encode_sets(features, mutual_neighbours(ranks), mutual_neighbours(ranks[:, :half]))
    return encoded if k2 <= 1 else average_over(encoded, ranks[:, :k2])


def relative_encoding(
    features: FeatureRows, k1: int, k2: int, progress: Progress | None = None
) -> tuple[SparseRows, np.ndarray]:
    """Return weights that do not depend on the features' unit, and each sample's greatest squared distance.

    The steps are those of :func:`reciprocal_encoding`, but for the sample itself, which comes before its k1
    neighbours, and the squared distances, which are divided by the sample's greatest. So it is in the paper,
    and in UDA (Song et al., arXiv 1807.11334), whose features are as long as the network gives them.

    Args:
        features: N samples.
        k1: neighbours that the sets are taken from.
        k2: neighbours averaged over, the sample itself among them; 1 for none.
        progress: shows a bar.

    Returns:
        N rows, and [N] float64, 1 for a sample that all others are copies of.
    """
    ranks, farthest = nearest_and_farthest(features, max(k1 + 1, k2), progress)
    farthest[farthest == 0] = 1
    half = int(np.around(k1 / 2)) + 1
    sets, half_sets = mutual_neighbours(ranks[:, : k1 + 1]), mutual_neighbours(ranks[:, :half])
    encoded = encode_sets(features, sets, half_sets, farthest)
    return (encoded if k2 == 1 else average_over(encoded, ranks[:, :k2])), farthest


def encode_sets(
    features: FeatureRows,
    sets: tuple[np.ndarray, np.ndarray],
    half_sets: tuple[np.ndarray, np.ndarray],
    scales: np.ndarray | None = None,
) -> SparseRows:
    """Return the weights of steps 2 and 3 of `reciprocal_encoding`.

    Args:
        features: N samples.
        sets: R of each sample: members [N, k] int32, of which the first in a row count, and their number [N]
            int64.
        half_sets: the sets that may join them, in the same form; of no members where nothing is to join.
        scales: [N] float64, positive: what the squared distances of a sample are divided by before step 3;
            None for 1.
    """
    if scales is None:
        scales = np.ones(len(features))
    widest = min(sets[0].shape[1] * (half_sets[0].shape[1] + 1), len(features))
    most = np.full(len(features), widest)
    arrays = (*sets, *half_sets)
    return _collect(most, lambda block, *out: _encode(*block, features.arrays, arrays, scales, *out))


def average_over(encoded: SparseRows, near: np.ndarray) -> SparseRows:
    """Return each sample's mean of the rows of its neighbours (step 4 of `reciprocal_encoding`).

    Args:
        encoded: N rows.
        near: [N, k2] int32, at least one sample in each row; -1 stands for none and does not count.
    """
    near = np.sort(near, axis=1)
    most = np.where(near < 0, 0, np.diff(encoded.starts)[near]).sum(axis=1)
    arrays = (encoded.starts, encoded.columns, encoded.weights)
    return _collect(most, lambda block, *out: _average(*block, near, *arrays, *out))


def mutual_neighbours(ranks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the samples among the neighbours of each that have it among theirs, and how many they are.

    Args:
        ranks: [N, k] int32, the neighbours of each sample; -1 for none.

    Returns:
        [N, k] int32, ascending in a row, in which what follows them means nothing, and [N] int64.
    """
    near = np.sort(ranks, axis=1)
    members, sizes = np.empty_like(near), np.empty(len(near), dtype=np.int64)
    run_blocks(
        row_blocks(len(near), _MOST_ROWS), lambda: lambda block: _find_mutual(*block, near, members, sizes)
    )
    return members, sizes


def _collect(most: np.ndarray, fill: Callable[..., None]) -> SparseRows:
    """Make rows in blocks by several threads, and by the workers of a shared pass; all of them get all rows.

    Args:
        most: [N] int64, how many entries each row has at most.
        fill: called with a block (start, stop), a workspace [N] of zeros that it leaves so, and the arrays
            to be filled: lengths [M], columns and weights [the sum of `most` over the block].
    """
    count = len(most)
    ends = np.cumsum(most)
    blocks, start = [], 0
    while start < count:
        before = ends[start - 1] if start else 0
        stop = int(np.searchsorted(ends, before + _BLOCK_ENTRIES, side="right"))
        blocks.append((start, min(max(stop, start + 1), start + _MOST_ROWS, count)))
        start = blocks[-1][1]
    shares = current_shares()
    own_blocks = blocks[own_part(shares, [stop - start for start, stop in blocks])]
    lengths = np.zeros(count, dtype=np.int64)
    parts: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def make_worker() -> Callable[[tuple[int, int]], None]:
        workspace = np.zeros(count)

        def work(block: tuple[int, int]) -> None:
            own, room = slice(*block), int(most[slice(*block)].sum())
            columns, weights = np.empty(room, dtype=np.int32), np.empty(room)
            fill(block, workspace, lengths[own], columns, weights)
            used = int(lengths[own].sum())
            parts[block[0]] = columns[:used].copy(), weights[:used].copy()

        return work

    run_blocks(own_blocks, make_worker)
    # The lengths that another worker has made are 0 here.
    starts = np.concatenate([[0], np.cumsum(shares.summed(lengths))])
    ordered = [parts.pop(block[0]) for block in own_blocks]
    nothing = np.empty(0, dtype=np.int32), np.empty(0)
    columns, weights = (
        np.concatenate([nothing[kind], *(part[kind] for part in ordered)]) for kind in range(2)
    )
    return SparseRows(starts, shares.gathered(columns), shares.gathered(weights))


@compiled()
def _find_mutual(start, stop, near, members, sizes):  # type: ignore[no-untyped-def]
    width = near.shape[1]
    for i in range(start, stop):
        size = 0
        for j in near[i]:
            if j < 0:
                continue
            place = np.searchsorted(near[j], i)
            if place < width and near[j, place] == i:
                members[i, size] = j
                size += 1
        sizes[i] = size


@compiled(error_model="numpy")
def _encode(start, stop, features, sets, scales, workspace, lengths, columns, weights):  # type: ignore[no-untyped-def]
    """Write steps 1 to 3 of rows start..stop-1; the workspace marks the sets of a row."""
    members, sizes, half_members, half_sizes = sets
    values, offsets, groups = features
    position = 0
    for i in range(start, stop):
        first = position
        base = members[i, : sizes[i]]
        for j in base:
            workspace[j] = 1
            columns[position] = j
            position += 1
        for candidate in base:
            others = half_members[candidate, : half_sizes[candidate]]
            overlap = 0
            for other in others:
                overlap += workspace[other] == 1
            if 3 * overlap > 2 * len(others):
                for other in others:
                    if workspace[other] == 0:
                        workspace[other] = 2
                        columns[position] = other
                        position += 1
        row = np.sort(columns[first:position])
        nearest = np.inf
        for place in range(len(row)):
            workspace[row[place]] = 0
            columns[first + place] = row[place]
            weights[first + place] = squared_distance(values, offsets, groups, i, row[place])
            nearest = min(nearest, weights[first + place])
        total = 0.0
        for place in range(first, position):
            weights[place] = np.exp((nearest - weights[place]) / scales[i])
            total += weights[place]
        for place in range(first, position):
            weights[place] /= total
        lengths[i - start] = position - first


@compiled(error_model="numpy")
def _average(start, stop, near, starts, columns, weights, workspace, lengths, out_columns, out_weights):  # type: ignore[no-untyped-def]
    """Write step 4 of rows start..stop-1; the workspace adds up the weights of a row."""
    position = 0
    for i in range(start, stop):
        first, averaged = position, 0
        for j in near[i]:
            if j < 0:
                continue
            averaged += 1
            for entry in range(starts[j], starts[j + 1]):
                column = columns[entry]
                if workspace[column] == 0 and weights[entry] > 0:
                    out_columns[position] = column
                    position += 1
                workspace[column] += weights[entry]
        row = np.sort(out_columns[first:position])
        for place in range(len(row)):
            out_columns[first + place] = row[place]
            out_weights[first + place] = workspace[row[place]] / averaged
            workspace[row[place]] = 0
        lengths[i - start] = position - first
