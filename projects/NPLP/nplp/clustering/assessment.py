"""The self-assessment score of a cluster (eqs. 6-8), and which clusters it calls noisy.

Shapes: N samples, c clusters, K noisy clusters.
"""

from __future__ import annotations

import numpy as np

from nplp.clustering.epsilon import round_half_up
from nplp.clustering.results import OUTLIER
from nplp.clustering.sweep import Distances

__all__ = ["all_equal", "assess", "noisy_clusters", "score_weights", "self_assessment"]

_TIE_DECIMALS = 9
_SCORE_ERROR = 2e-5
"""Two scores from approximate sums may change places where they differ by less than this."""


def assess(distances: Distances, labels: np.ndarray, noisy_fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores [c] of clusters (eq. 8) and the K noisy ones, lowest first.

    Where sums of distances are approximate, clusters that they leave between noisy and not are assessed
    again by exact ones, so that which clusters are noisy does not depend on how sums were made.

    Args:
        distances: among N samples.
        labels: [N] int64, 0..c-1 without gaps, -1 for outliers.
        noisy_fraction: in (0, 1]; see `noisy_clusters`.
    """
    scores = self_assessment(distances, labels)
    noisy = noisy_clusters(scores, noisy_fraction)
    if distances.sums_are_exact or not 0 < len(noisy) < len(scores):
        return scores, noisy
    left_open = np.flatnonzero(np.abs(scores - scores[noisy[-1]]) <= _SCORE_ERROR)
    if len(left_open) < 2:
        return scores, noisy
    members = np.flatnonzero(np.isin(labels, left_open))
    sums = distances.exact_cluster_sums(labels, members)
    scores[left_open] = _mean_scores(labels, members, *sums)[left_open]
    return scores, noisy_clusters(scores, noisy_fraction)


def self_assessment(distances: Distances, labels: np.ndarray) -> np.ndarray:
    """Return the mean of (b_i - a_i) / max(a_i, b_i) over the samples of each cluster.

    a_i (eq. 6) is the mean distance of sample i to the others of its cluster, b_i (eq. 7) to all clustered
    samples outside it: not to the nearest other cluster, so this is not scikit-learn's silhouette. Outliers
    are in no sum. Where the formula says nothing the score is 0, neither good nor bad: for a cluster of one
    sample, for the only cluster there is, and for a sample with a_i = b_i = 0.

    Args:
        distances: among N samples.
        labels: [N] int64, 0..c-1 without gaps, -1 for outliers.

    Returns:
        [c] float64 in [-1, 1].
    """
    num_clusters = int(labels.max(initial=OUTLIER)) + 1
    if num_clusters < 2:
        return np.zeros(num_clusters)
    clustered = np.flatnonzero(labels != OUTLIER)
    own, total = distances.cluster_sums(labels)
    return _mean_scores(labels, clustered, own[clustered], total[clustered])


def _mean_scores(labels: np.ndarray, members: np.ndarray, own: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return the mean score of each cluster [c] over its samples among `members` [M]; 0 without any.

    Args:
        labels: [N] int64.
        members: [M] int64, clustered samples.
        own: [M] float64, sums of distances to the own cluster.
        total: [M] float64, sums of distances to all clustered samples.
    """
    sizes = np.bincount(labels[labels != OUTLIER])
    groups = labels[members]
    size = sizes[groups]
    inner = own / np.maximum(size - 1, 1)
    # Sums over all minus sums over a part can fall below zero by rounding.
    outer = np.maximum(total - own, 0) / (sizes.sum() - size)
    greater = np.maximum(inner, outer)
    defined = (size > 1) & (greater > 0)
    score = np.divide(outer - inner, greater, out=np.zeros(len(members)), where=defined)
    return np.bincount(groups, score, minlength=len(sizes)) / sizes


def all_equal(scores: np.ndarray) -> bool:
    """Tell whether two clusters or more have scores [c] that agree to 9 decimals, and so no order."""
    return len(scores) > 1 and len(np.unique(np.round(scores, _TIE_DECIMALS))) == 1


def noisy_clusters(scores: np.ndarray, noisy_fraction: float) -> np.ndarray:
    """Return the K clusters of lowest score, lowest first.

    K = noisy_fraction c, rounded to the nearest integer (the upper one at a half), and at least 1 where there
    are two clusters or more. Scores that agree to 9 decimals are equal, and the lower index then goes first.

    Args:
        scores: [c] float64.
        noisy_fraction: in (0, 1].

    Returns:
        [K] int64.
    """
    count = len(scores)
    noisy = round_half_up(noisy_fraction * count)
    if count >= 2:
        noisy = max(1, noisy)
    return np.argsort(np.round(scores, _TIE_DECIMALS), kind="stable")[:noisy].astype(np.int64)


def score_weights(scores: np.ndarray, startup_labels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the weight of each cluster by its self-assessment score q (eq. 8), on average 1.

    w_i = c (1 + q_i) / sum_j (1 + q_j): 0 for the worst score there can be, -1. A cluster that came of
    another by correction has the score of the one that it came of. Not in the paper, which uses scores to
    choose what is clustered again.

    Args:
        scores: [c'] float64 in [-1, 1], of the startup clusters.
        startup_labels: [N] int64, -1 for outliers.
        labels: [N] int64, 0..c-1 without gaps, -1 for outliers, each cluster within one startup cluster.

    Returns:
        [c] float64; all 1 where no cluster scores above -1.
    """
    inside = labels >= 0
    of = np.zeros(int(labels.max(initial=-1)) + 1, dtype=np.int64)
    of[labels[inside]] = startup_labels[inside]
    raw = 1 + scores[of]
    return raw * (len(raw) / raw.sum()) if raw.sum() > 0 else np.ones(len(raw))
