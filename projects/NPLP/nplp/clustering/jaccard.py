"""k-reciprocal Jaccard distance on sparse rows.

Zhong et al., "Re-ranking person re-identification with k-reciprocal encoding", CVPR 2017, in the form that
unsupervised re-identification uses it: no mixture with the original distance, neighbours among the samples
themselves, each its own first neighbour.

Shapes: N samples, k1 neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.sparse import csr_array

from nplp.clustering.distances import EdgeBlock, SmallestValues, clipped_mean, cross_camera_mask
from nplp.clustering.euclidean import EuclideanDistances
from nplp.clustering.features import FeatureRows
from nplp.clustering.neighbours import nearest_neighbours
from nplp.clustering.results import OUTLIER

__all__ = ["JaccardDistances", "reciprocal_encoding"]

_BLOCK_VALUES = 1 << 20
_DECIMALS = 12
"""Distances are kept to this many: what differs by the rounding of sums only is equal."""


def reciprocal_encoding(features: FeatureRows, k1: int, k2: int) -> csr_array:
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

    Returns:
        CSR array [N, N] float64 with sorted indices, about 50 to 100 values a row at k1 = 20. A row is empty
        only if k2 is 1 and the sample has k1 or more exact duplicates of lower index.
    """
    distances = EuclideanDistances(features)
    ranks = nearest_neighbours(distances, k1)
    half = min(int(np.around(k1 / 2)) + 1, ranks.shape[1])
    reciprocal = _reciprocal_sets(ranks)
    expanded = _expanded_sets(reciprocal, _reciprocal_sets(ranks[:, :half]))
    weights = _softmax_weights(distances, expanded)
    if k2 > 1:
        weights = csr_array(_membership(ranks[:, :k2]) @ weights)
        weights.data /= min(k2, ranks.shape[1])
    weights.sort_indices()
    return weights


def _membership(ranks: np.ndarray) -> csr_array:
    """Return ones [N, N] at the neighbours of each sample, from ranks [N, k]."""
    count, k = ranks.shape
    ones = np.ones(count * k, dtype=np.int64)
    sorted_ranks = np.sort(ranks, axis=1).reshape(-1)
    return csr_array((ones, sorted_ranks, np.arange(0, count * k + 1, k)), shape=(count, count))


def _reciprocal_sets(ranks: np.ndarray) -> csr_array:
    """Return ones [N, N] where two samples are among each other's neighbours."""
    near = _membership(ranks)
    return csr_array(near.multiply(near.T))


def _expanded_sets(reciprocal: csr_array, half: csr_array) -> csr_array:
    """Return a sparse [N, N] pattern: R(i) and the half-size sets that overlap it by over two thirds."""
    overlap = csr_array((reciprocal @ half.T).multiply(reciprocal))
    candidate = csr_array(overlap)
    size = np.diff(half.indptr)[overlap.indices]
    candidate.data = (3 * overlap.data > 2 * size).astype(np.int64)
    candidate.eliminate_zeros()
    expanded = csr_array(reciprocal + candidate @ half)
    expanded.sort_indices()
    return expanded


def _softmax_weights(distances: EuclideanDistances, pattern: csr_array) -> csr_array:
    """Return the softmax of negative squared distances over each row of a pattern [N, N]."""
    lengths = np.diff(pattern.indptr)
    rows = np.repeat(np.arange(len(distances)), lengths)
    squared = distances.exact(rows, pattern.indices.astype(np.int64))
    nearest = np.full(len(distances), np.inf)
    np.minimum.at(nearest, rows, squared)
    weights = np.exp(nearest[rows] - squared)
    weights /= np.bincount(rows, weights, minlength=len(distances))[rows]
    return csr_array((weights, pattern.indices, pattern.indptr), shape=pattern.shape)


class JaccardDistances:
    """Jaccard distances 1 - s / (2 - s), s = sum of the minima of two rows of weights, clipped at 0.

    A pair whose rows share no sample has distance 1 and is never stored or looked at. The others are made
    in blocks of rows each time they are needed.

    Memory: the rows of weights, and blocks of some 64 MB in all.
    """

    def __init__(self, weights: csr_array) -> None:
        self._weights = weights
        # Entry p of `_samples` is the sample that gives column c its (p - _starts[c])-th weight.
        order = np.argsort(weights.indices, kind="stable")
        rows = np.repeat(np.arange(weights.shape[0]), np.diff(weights.indptr))
        self._samples = rows[order]
        self._values = weights.data[order]
        self._starts = np.searchsorted(weights.indices[order], np.arange(weights.shape[1] + 1))
        self._position = np.empty(len(order), dtype=np.int64)
        self._position[order] = np.arange(len(order))
        self._later = self._starts[weights.indices + 1] - self._position - 1

    @classmethod
    def of_features(cls, features: FeatureRows, k1: int, k2: int) -> JaccardDistances:
        """Return the distances among the rows of features; see `reciprocal_encoding`."""
        return cls(reciprocal_encoding(features, k1, k2))

    def __len__(self) -> int:
        return int(self._weights.shape[0])

    def subset(self, members: np.ndarray) -> JaccardDistances:
        """Return the distances among the samples `members` [M] int64; no weight is recomputed."""
        return JaccardDistances(csr_array(self._weights[members]))

    def all_within(self, epsilon: float) -> bool:
        """Return True from 1 on, the greatest Jaccard distance."""
        return epsilon >= 1

    def mean_of_smallest(self, camera_ids: np.ndarray | None, count: int) -> float:
        """Return the mean of the `count` smallest distances; see `Distances.mean_of_smallest`."""
        buffer = SmallestValues(count)
        for first, second, distance in self.overlapping_pairs():
            buffer.add(distance[cross_camera_mask(camera_ids, first, second)])
        smallest = buffer.smallest()
        near = clipped_mean(smallest) if len(smallest) else 1.0
        share = len(smallest) / count
        return near if share == 1 else near * share + (1 - share)

    def edges_within(self, epsilon: float) -> Iterator[EdgeBlock]:
        """Yield all pairs i < j within `epsilon` in blocks; see `Distances.edges_within`.

        Raises:
            ValueError: if epsilon is 1 or more, where all pairs are: see `all_within`.
        """
        if self.all_within(epsilon):
            raise ValueError(f"all pairs are within a Jaccard distance of 1, got epsilon {epsilon}")
        for first, second, distance in self.overlapping_pairs():
            within = distance <= epsilon
            yield first[within], second[within]

    def cluster_sums(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return sums to the own cluster and to all clustered samples; see `Distances.cluster_sums`."""
        clustered = labels != OUTLIER
        sizes = np.bincount(labels[clustered], minlength=1)
        own = np.where(clustered, sizes[labels] - 1.0, 0.0)
        total = np.where(clustered, clustered.sum() - 1.0, 0.0)
        for first, second, distance in self.overlapping_pairs():
            both = clustered[first] & clustered[second]
            first, second, nearness = first[both], second[both], 1 - distance[both]
            same = labels[first] == labels[second]
            for one in (first, second):
                total -= np.bincount(one, nearness, minlength=len(self))
                own -= np.bincount(one[same], nearness[same], minlength=len(self))
        return own, total

    def overlapping_pairs(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield the pairs i < j that share a sample, and their distances in [0, 1), in blocks of rows."""
        for start, stop in self._row_blocks():
            first, second, shared = self._shared_weights(start, stop)
            distance = np.round(np.maximum(1 - shared / (2 - shared), 0), _DECIMALS)
            near = distance < 1
            yield first[near], second[near], distance[near]

    def _row_blocks(self) -> Iterator[tuple[int, int]]:
        """Yield ranges of rows whose cells, and whose minima to add up, are few enough for one block."""
        minima = np.concatenate([[0], np.cumsum(self._later)])[self._weights.indptr]
        most_rows = max(1, _BLOCK_VALUES // len(self))
        start = 0
        while start < len(self):
            fitting = int(np.searchsorted(minima, minima[start] + _BLOCK_VALUES, side="right")) - 1
            stop = min(max(fitting, start + 1), start + most_rows, len(self))
            yield start, stop
            start = stop

    def _shared_weights(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the sums of minima of the rows start..stop-1 with later rows, where there are any.

        The weights of a column are in the order of samples, so that those of later samples follow an entry
        directly. Minima are added up in the order of columns for either sample of a pair.
        """
        entries = slice(self._weights.indptr[start], self._weights.indptr[stop])
        position, later = self._position[entries], self._later[entries]
        rows = np.repeat(np.arange(stop - start), np.diff(self._weights.indptr[start : stop + 1]))
        partners = np.repeat(position + 1 - (np.cumsum(later) - later), later) + np.arange(later.sum())
        minima = np.minimum(np.repeat(self._weights.data[entries], later), self._values[partners])
        cells = np.repeat(rows * len(self), later) + self._samples[partners]
        shared = np.bincount(cells, minima, minlength=(stop - start) * len(self))
        found = np.flatnonzero(shared)
        return found // len(self) + start, found % len(self), shared[found]
