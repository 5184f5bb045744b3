"""What falls out of a noisy cluster when it is clustered again, put back (not in the paper)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from nplp.clustering.results import OUTLIER
from nplp.clustering.sweep import Distances

__all__ = ["rejoin_outliers"]


def rejoin_outliers(
    distances: Distances, startup_labels: np.ndarray, labels: np.ndarray, epsilon_e: float
) -> np.ndarray:
    """Return labels in which what correction made an outlier joins a sub-cluster of its startup cluster.

    It joins that in which it has the most neighbours within epsilon_e; of several such the first. Without a
    neighbour in any sub-cluster it stays an outlier, and so does all of a cluster that has none.

    Args:
        distances: those of the startup stage.
        startup_labels: [N] int64, before correction, -1 for outliers.
        labels: [N] int64, after it.
        epsilon_e: radius of the startup stage (eq. 4).

    Returns:
        labels [N] int64; the clusters keep their numbers.

    Memory: 16 bytes for each pair of an outlier and a sub-cluster in which it has a neighbour, beside a block
    of edges.
    """
    lost = (startup_labels != OUTLIER) & (labels == OUTLIER)
    joined = labels.copy()
    width = int(labels.max(initial=OUTLIER)) + 1
    if not lost.any() or not width:
        return joined
    if distances.all_within(epsilon_e):
        keys, counts = _all_votes(startup_labels, labels, lost, width)
    else:
        votes = _Votes(startup_labels, labels, lost, width)
        distances.visit_edges(epsilon_e, votes.add)
        keys, counts = votes.keys, votes.counts
    # The most votes first, then the first sub-cluster; of each sample the first of these.
    samples, parts = np.divmod(keys, width)
    order = np.lexsort((parts, -counts, samples))
    chosen, first = np.unique(samples[order], return_index=True)
    joined[chosen] = parts[order][first]
    return joined


@dataclass
class _Votes:
    """Counts, edge by edge, the neighbours that lost samples have in the sub-clusters of their cluster.

    Attributes:
        startup_labels: [N] int64, before correction.
        labels: [N] int64, after it.
        lost: [N] bool, what is to be placed.
        width: number of clusters after correction.
        keys: [M] int64, sample x width + sub-cluster, ascending, of those that have met.
        counts: [M] int64, how often.
    """

    startup_labels: np.ndarray
    labels: np.ndarray
    lost: np.ndarray
    width: int
    keys: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    counts: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def add(self, first: np.ndarray, second: np.ndarray) -> None:
        """Count the edges of a block: all of them, or none where memory does not suffice."""
        found = np.concatenate([self._keys(first, second), self._keys(second, first)])
        weights = np.concatenate([self.counts, np.ones(len(found), dtype=np.int64)])
        keys, places = np.unique(np.concatenate([self.keys, found]), return_inverse=True)
        counts = np.zeros(len(keys), dtype=np.int64)
        np.add.at(counts, places.reshape(-1), weights)
        self.keys, self.counts = keys, counts

    def _keys(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Return the keys of the pairs whose first was lost from the cluster in which the second stayed."""
        mates = self.startup_labels[one] == self.startup_labels[other]
        chosen = mates & self.lost[one] & (self.labels[other] != OUTLIER)
        return one[chosen].astype(np.int64) * self.width + self.labels[other[chosen]]


def _all_votes(
    startup_labels: np.ndarray, labels: np.ndarray, lost: np.ndarray, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the same where every sample is everyone's neighbour: a sub-cluster's votes are its size."""
    kept = labels != OUTLIER
    parents = np.zeros(width, dtype=np.int64)
    parents[labels[kept]] = startup_labels[kept]
    sizes = np.bincount(labels[kept], minlength=width)
    largest = np.full(int(startup_labels.max()) + 1, OUTLIER, dtype=np.int64)
    for part in np.lexsort((-np.arange(width), sizes)):
        # In ascending order of size, so that the largest, and of several the first, is written last.
        largest[parents[part]] = part
    samples = np.flatnonzero(lost & (largest[startup_labels] != OUTLIER))
    parts = largest[startup_labels[samples]]
    return samples * width + parts, sizes[parts]
