"""A cluster that chains a great share of all samples together, and a radius that does not make one.

The paper knows no such cluster: it takes epsilon of eq. 4 as it is. Where epsilon is beyond the radius at
which chains join most samples, the labels say next to nothing, and both losses of eq. 12 vanish.
"""

from __future__ import annotations

import numpy as np

from nplp.clustering.dbscan import cluster
from nplp.clustering.distances import Distances
from nplp.clustering.results import OUTLIER

__all__ = ["DROPPED", "LOWERED", "cluster_without_giants", "is_giant"]

LOWERED = "lowered"
"""Epsilon was lowered until no cluster was a giant."""
DROPPED = "dropped"
"""No radius broke the giants up, so that their samples are outliers."""

_STEP = 0.9
_MOST_STEPS = 40
_PAST_THE_MOST = 0.8
"""Once a radius gives this share of the most clusters found, smaller ones give fewer still."""


def is_giant(labels: np.ndarray, share: float) -> np.ndarray:
    """Return [c] bool: which clusters hold `share` or more of all samples, outliers included.

    Args:
        labels: [N] int64, 0..c-1 without gaps, -1 for outliers.
        share: in (0, 1].
    """
    return np.bincount(labels[labels != OUTLIER]) >= share * len(labels)


def cluster_without_giants(
    distances: Distances, epsilon: float, min_samples: int, share: float
) -> tuple[np.ndarray, float, str]:
    """Return DBSCAN labels without a cluster of `share` or more of all samples.

    Where `epsilon` makes such a cluster, it is lowered by a tenth at a time, and of the radii without one
    that which makes the most clusters is taken: with a smaller one samples become outliers, with a greater
    one clusters merge. Giants that no radius breaks up, such as duplicates of one image, become outliers.

    Args:
        distances: among N samples.
        epsilon: radius that eq. 4 gives.
        min_samples: neighbours that make a core sample, itself included.
        share: of all samples, in (0, 1].

    Returns:
        labels [N] int64, the radius, and "", `LOWERED` or `DROPPED`. Time: that of a clustering for each
        radius, at most 41.
    """
    labels = cluster(distances, epsilon, min_samples)
    if not is_giant(labels, share).any():
        return labels, epsilon, ""
    best, best_radius, most = labels, 0.0, 0
    for step in range(1, _MOST_STEPS + 1 if epsilon > 0 else 0):
        radius = epsilon * _STEP**step
        found = cluster(distances, radius, min_samples)
        clusters = int(found.max(initial=OUTLIER)) + 1
        if clusters > most and not is_giant(found, share).any():
            best, best_radius, most = found, radius, clusters
        elif clusters < _PAST_THE_MOST * most:
            break
    if most:
        return best, best_radius, LOWERED
    return _dropped(labels, share), epsilon, DROPPED


def _dropped(labels: np.ndarray, share: float) -> np.ndarray:
    """Return labels [N] without the giants, whose samples become outliers."""
    giant = is_giant(labels, share)
    renumbered = np.append(np.where(giant, OUTLIER, np.cumsum(~giant) - 1), OUTLIER)
    return renumbered[labels].astype(np.int64)
