"""Clusters that keep constraints: what is known to be one person stays together, two people stay apart.

Not in the paper. Shapes: N samples, c clusters, C components, D values of a feature.
"""

from __future__ import annotations

import numpy as np

from nplp.clustering.apart import split_apart
from nplp.clustering.changes import ConstraintChanges
from nplp.clustering.constraints import Constraints
from nplp.clustering.results import OUTLIER
from nplp.clustering.sweep import FeatureRows

__all__ = ["constrain_labels"]


def constrain_labels(
    labels: np.ndarray, constraints: Constraints, rows: FeatureRows, min_samples: int
) -> tuple[np.ndarray, ConstraintChanges]:
    """Return labels that keep the constraints, and what changed.

    1. All images of a component, if any of them is clustered, come into the cluster that holds most of them:
       of several such the one with more images, then the lower one.
    2. A cluster of whose images step 1 moved more than half to one other cluster joins that cluster with all
       that is in it now. Such moves make no circle: to lose more than half of its images, a cluster that
       others join must lose more than they did.
    3. A component of which no image is clustered becomes a cluster of its own if it has `min_samples` images
       or more, and two at least.
    4. A cluster that holds two components which must stay apart is split by `split_apart`: the part of most
       images, of several the first, keeps the cluster's number.
    5. Images in a cluster that steps 1, 2 or 4 took images from become outliers if fewer than `min_samples`
       are left in it, and so do parts of step 4.

    After that no component of several images is in two clusters, or in a cluster in part, and no two
    components that must stay apart are in one. Without constraints nothing changes.

    Args:
        labels: [N] int64, 0..c-1 without gaps, -1 for outliers.
        constraints: of N images.
        rows: features [N, D], which step 4 measures distances with.
        min_samples: of DBSCAN.

    Returns:
        labels [N] int64 without gaps, in the order of the old ones, then of the components that became
        clusters, then of the parts; and the changes. Memory: O(N + E), and that of `split_apart`.
    """
    voted, joined_clusters = _vote(labels, constraints)
    clustered = labels != OUTLIER
    moved = clustered & (voted != labels)
    reduced = np.zeros(2 * len(labels) + 1, dtype=bool)
    reduced[labels[moved]] = True
    grown, new_clusters = _own_clusters(voted, constraints, min_samples)
    divided, split_clusters = _split(grown, constraints, rows, reduced)
    sizes = np.bincount(divided[divided != OUTLIER], minlength=1)
    too_small = reduced[: len(sizes)] & (sizes < min_samples)
    left_out = (divided != OUTLIER) & too_small[divided]
    divided[left_out] = OUTLIER
    inside = divided != OUTLIER
    divided[inside] = np.unique(divided[inside], return_inverse=True)[1].reshape(-1)
    return divided, ConstraintChanges(
        moved_images=int(moved.sum()),
        joined_images=int((~clustered & (voted != OUTLIER)).sum()),
        joined_clusters=joined_clusters,
        new_clusters=new_clusters,
        split_clusters=split_clusters,
        left_out_images=int(left_out.sum()),
    )


def _vote(labels: np.ndarray, constraints: Constraints) -> tuple[np.ndarray, int]:
    """Return labels after steps 1 and 2, with the old numbers, and how many clusters joined another."""
    components, several = constraints.components, constraints.sizes > 1
    sizes = np.bincount(labels[labels != OUTLIER], minlength=1)
    voting = np.flatnonzero((labels != OUTLIER) & several[components])
    ballots, votes = np.unique(np.stack([components[voting], labels[voting]]), axis=1, return_counts=True)
    order = np.lexsort((ballots[1], -sizes[ballots[1]], -votes, ballots[0]))
    winners = np.full(len(several), OUTLIER, dtype=np.int64)
    # Written in reverse, so that a component's first choice stays.
    winners[ballots[0][order[::-1]]] = ballots[1][order[::-1]]
    won = winners[components] != OUTLIER
    voted = np.where(won, winners[components], labels)
    moved = (labels != OUTLIER) & (voted != labels)
    ways, counts = np.unique(np.stack([labels[moved], voted[moved]]), axis=1, return_counts=True)
    most = 2 * counts > sizes[ways[0]]
    target = np.arange(len(sizes))
    target[ways[0][most]] = ways[1][most]
    while (target[target] != target).any():
        target = target[target]
    return np.where(voted != OUTLIER, target[voted], OUTLIER), int(most.sum())


def _own_clusters(labels: np.ndarray, constraints: Constraints, min_samples: int) -> tuple[np.ndarray, int]:
    """Return labels after step 3, and how many clusters are new."""
    sizes = constraints.sizes
    unclustered = np.bincount(constraints.components[labels == OUTLIER], minlength=len(sizes)) == sizes
    chosen = np.flatnonzero(unclustered & (sizes >= max(2, min_samples)))
    numbers = np.full(len(sizes), OUTLIER, dtype=np.int64)
    numbers[chosen] = int(labels.max(initial=OUTLIER)) + 1 + np.arange(len(chosen))
    own = numbers[constraints.components]
    return np.where(own != OUTLIER, own, labels), len(chosen)


def _split(
    labels: np.ndarray, constraints: Constraints, rows: FeatureRows, reduced: np.ndarray
) -> tuple[np.ndarray, int]:
    """Return labels after step 4, and how many clusters were split; mark them and their parts as reduced."""
    labels = labels.copy()
    cluster_of = np.full(len(constraints.sizes), OUTLIER, dtype=np.int64)
    cluster_of[constraints.components] = labels
    pairs = cluster_of[constraints.cannot]
    broken = (pairs[:, 0] == pairs[:, 1]) & (pairs[:, 0] != OUTLIER)
    following = int(labels.max(initial=OUTLIER)) + 1
    by_cluster = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[by_cluster], np.arange(following + 1))
    edges = constraints.cannot[broken]
    edges = edges[np.argsort(cluster_of[edges[:, 0]], kind="stable")]
    clusters, counts = np.unique(cluster_of[edges[:, 0]], return_counts=True)
    for cluster, end, count in zip(clusters, np.cumsum(counts), counts, strict=True):
        members = by_cluster[starts[cluster] : starts[cluster + 1]]
        parts = split_apart(rows, members, constraints.components[members], edges[end - count : end])
        sizes = np.bincount(parts)
        numbers = np.empty(len(sizes), dtype=np.int64)
        largest = int(sizes.argmax())
        others = np.arange(len(sizes)) != largest
        numbers[largest] = cluster
        numbers[others] = following + np.arange(len(sizes) - 1)
        following += len(sizes) - 1
        labels[members] = numbers[parts]
        reduced[numbers] = True
    return labels, len(clusters)
