"""The correcting stage: noisy clusters are clustered again by themselves (eq. 9)."""

from __future__ import annotations

import numpy as np

from nplp.clustering.dbscan import dbscan
from nplp.clustering.results import OUTLIER
from nplp.clustering.sweep import Distances, EdgeVisitor

__all__ = ["correct_labels", "without_clusters"]


def correct_labels(
    distances: Distances,
    startup_labels: np.ndarray,
    noisy: np.ndarray,
    epsilon_c: float,
    min_samples: int,
    keep_dissolved: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Return labels in which each noisy cluster is replaced by its sub-clusters at epsilon_c.

    What is an outlier within its cluster is an outlier of the result, and so is all of a cluster without
    sub-clusters, unless dissolved clusters are to be kept whole. Clusters left whole are numbered first, in
    their order; sub-clusters follow, by startup cluster and then in the order of DBSCAN.

    Args:
        distances: those of the startup stage, not recomputed within a cluster.
        startup_labels: [N] int64, 0..c-1 without gaps, -1 for outliers.
        noisy: [K] int64, clusters to cluster again, in any order.
        epsilon_c: radius of the correcting stage, beta epsilon_e.
        min_samples: neighbours that make a core sample, itself included.
        keep_dissolved: keep a cluster whole that has no sub-cluster.

    Returns:
        labels [N] int64, and the clusters without sub-clusters [at most K] int64, ascending.
    """
    is_noisy = _marked(startup_labels, noisy)
    num_clusters = len(is_noisy) - 1
    parts = _parts(distances, startup_labels, is_noisy[startup_labels], epsilon_c, min_samples)
    found = parts != OUTLIER
    has_parts = np.zeros(num_clusters + 1, dtype=bool)
    has_parts[startup_labels[found]] = True
    dissolved = np.flatnonzero(is_noisy & ~has_parts)
    is_split = is_noisy & (has_parts | (not keep_dissolved))
    labels = without_clusters(startup_labels, np.flatnonzero(is_split))
    whole = num_clusters - int(is_split.sum())
    # Sub-clusters in the order of their startup cluster, and within it in the order of DBSCAN.
    pairs = np.stack([startup_labels[found], parts[found]], axis=1)
    if len(pairs):
        labels[found] = whole + np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1)
    return labels, dissolved.astype(np.int64)


def without_clusters(labels: np.ndarray, left_out: np.ndarray) -> np.ndarray:
    """Return labels in which the images of some clusters are outliers; the others keep their order.

    Args:
        labels: [N] int64, 0..c-1 without gaps, -1 for outliers.
        left_out: [K] int64, clusters.

    Returns:
        [N] int64, 0..c-K-1 without gaps, -1 for outliers.
    """
    is_left_out = _marked(labels, left_out)
    whole = np.flatnonzero(~is_left_out[:-1])
    renumbered = np.full(len(is_left_out), OUTLIER, dtype=np.int64)
    renumbered[whole] = np.arange(len(whole))
    return renumbered[labels]


def _marked(labels: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Return [c + 1] bool, which of the clusters are meant; the last entry is that of outliers, label -1."""
    marked = np.zeros(int(labels.max(initial=OUTLIER)) + 2, dtype=bool)
    marked[clusters] = True
    return marked


def _parts(
    distances: Distances, labels: np.ndarray, chosen: np.ndarray, epsilon: float, min_samples: int
) -> np.ndarray:
    """Return labels [N] of DBSCAN over the pairs that are of one label, -1 for all samples not chosen.

    Clusters share no pair, so that one pass over the edges clusters each of them by itself.
    """
    if distances.all_within(epsilon):
        sizes = np.bincount(labels[chosen], minlength=int(labels.max(initial=0)) + 1)
        return np.where(chosen & (sizes[labels] >= min_samples), 0, OUTLIER)

    def visit_edges(visit: EdgeVisitor) -> None:
        def inner_edges(first: np.ndarray, second: np.ndarray) -> None:
            inner = chosen[first] & (labels[first] == labels[second])
            visit(first[inner], second[inner])

        distances.visit_edges(epsilon, inner_edges)

    return np.where(chosen, dbscan(len(labels), visit_edges, min_samples), OUTLIER)
