"""Which clusters are reliable: the self-paced criterion of SpCL (Ge et al., NeurIPS 2020, arXiv 2006.02713).

Its authors' code (yxgeee/SpCL, examples/spcl_train_uda.py) compares the clusters I of DBSCAN at a radius with
those at a smaller and at a larger one. With |A| the number of images of a set, and an outlier a cluster of
its own, each image has

R_comp = 1 - |I n I_tight| / |I u I_tight|,    R_indep = 1 - |I n I_loose| / |I u I_loose|.

A cluster's score of independence is the least R_indep among its images. An image stays in its cluster where
that score is at most a threshold, and where its own R_comp is the least in its cluster: the images that the
smaller radius keeps together in the largest number stay, others leave. The paper writes both with the
opposite sign, as shares that must be high.

Shapes: N samples, c clusters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nplp.clustering.results import OUTLIER
from nplp.clustering.singles import outliers_as_clusters

__all__ = ["SelfPaced", "cluster_distances", "self_paced_labels"]

RELIABLE_SHARE = 0.9
"""Share of the first clustering's clusters whose independence is at most the threshold."""


@dataclass(frozen=True)
class SelfPaced:
    """What the self-paced criterion leaves of a clustering.

    Attributes:
        labels: [N] int64, 0..c'-1 without gaps in the order of the clusters, -1 for images outside of any; a
            cluster of which one image is left is none.
        threshold: of the clusters' independence, as given or as chosen; None where nothing could be chosen.
        dependent: clusters whose independence is above the threshold.
        left: images that left a cluster which is independent.
    """

    labels: np.ndarray
    threshold: float | None
    dependent: int
    left: int


def cluster_distances(labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return for each sample 1 - |A n B| / |A u B| of its clusters A and B in two clusterings.

    An outlier's cluster is itself alone. Memory: some arrays of N; no N x N array.

    Args:
        labels: [N] integers, -1 for outliers.
        others: [N] integers, -1 for outliers.

    Returns:
        [N] float64 in [0, 1).
    """
    first, second = outliers_as_clusters(labels), outliers_as_clusters(others)
    _, cell, shared = np.unique(np.stack([first, second]), axis=1, return_inverse=True, return_counts=True)
    common = shared[cell.reshape(-1)]
    union = np.bincount(first)[first] + np.bincount(second)[second] - common
    return 1 - common / union


def self_paced_labels(
    labels: np.ndarray, tight: np.ndarray, loose: np.ndarray, threshold: float | None = None
) -> SelfPaced:
    """Return the reliable clusters of a clustering; see the top of this module.

    Args:
        labels: [N] int64, the clusters at the radius, 0..c-1 without gaps, -1 for outliers.
        tight: [N] int64, those at the smaller radius.
        loose: [N] int64, those at the larger one.
        threshold: of the clusters' independence; None, for the first clustering, takes the sorted scores'
            entry round(0.9 c), the last where that is beyond it.
    """
    inside = labels != OUTLIER
    count = int(labels.max(initial=OUTLIER)) + 1
    if not count:
        return SelfPaced(labels.copy(), threshold, 0, 0)
    compact, independent = np.ones(count), np.ones(count)
    own_compact, own_independent = cluster_distances(labels, tight), cluster_distances(labels, loose)
    np.minimum.at(compact, labels[inside], own_compact[inside])
    np.minimum.at(independent, labels[inside], own_independent[inside])
    if threshold is None:
        threshold = float(np.sort(independent)[min(count - 1, int(np.round(RELIABLE_SHARE * count)))])
    reliable = independent <= threshold
    stays = inside & reliable[labels] & (own_compact <= compact[labels])
    kept = np.where(stays, labels, OUTLIER)
    left = int((inside & reliable[labels] & ~stays).sum())
    return SelfPaced(_without_single_images(kept, count), threshold, int((~reliable).sum()), left)


def _without_single_images(labels: np.ndarray, count: int) -> np.ndarray:
    """Return labels [N], of fewer than `count`, without the clusters of one image and without gaps."""
    kept = np.bincount(labels[labels != OUTLIER], minlength=count) > 1
    renumbered = np.append(np.where(kept, np.cumsum(kept) - 1, OUTLIER), OUTLIER)
    return renumbered[labels].astype(np.int64)
