"""The correcting stage: noisy clusters are clustered again by themselves (eq. 9)."""

from __future__ import annotations

import numpy as np

from nplp.clustering.dbscan import cluster
from nplp.clustering.distances import Distances
from nplp.clustering.results import OUTLIER

__all__ = ["correct_labels"]


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
    members_of = {int(index): np.flatnonzero(startup_labels == index) for index in np.sort(noisy)}
    parts = {
        index: cluster(distances.subset(members), epsilon_c, min_samples)
        for index, members in members_of.items()
    }
    dissolved = [index for index, part in parts.items() if part.max(initial=OUTLIER) == OUTLIER]
    split = [index for index in parts if not (keep_dissolved and index in dissolved)]
    num_clusters = int(startup_labels.max(initial=OUTLIER)) + 1
    whole = np.setdiff1d(np.arange(num_clusters), split)
    # One entry more than there are clusters, so that the label -1 finds OUTLIER at the end.
    renumbered = np.full(num_clusters + 1, OUTLIER, dtype=np.int64)
    renumbered[whole] = np.arange(len(whole))
    labels = renumbered[startup_labels]
    following = len(whole)
    for index in split:
        part = parts[index]
        labels[members_of[index]] = np.where(part == OUTLIER, OUTLIER, part + following)
        following += int(part.max(initial=OUTLIER)) + 1
    return labels, np.array(dissolved, dtype=np.int64)
