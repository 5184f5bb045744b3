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
_MOST_STEPS = 88
"""Down to a ten-thousandth of epsilon."""


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

    Where `epsilon` makes such a cluster, it is lowered by a tenth at a time until there is none. Giants that
    no radius breaks up, such as duplicates of one image, become outliers.

    Args:
        distances: among N samples.
        epsilon: radius that eq. 4 gives.
        min_samples: neighbours that make a core sample, itself included.
        share: of all samples, in (0, 1].

    Returns:
        labels [N] int64, the radius, and "", `LOWERED` or `DROPPED`. Time: that of a clustering for each
        radius, at most 89.
    """
    labels = first = cluster(distances, epsilon, min_samples)
    for step in range(1, _MOST_STEPS + 2):
        if not is_giant(labels, share).any():
            return labels, epsilon * _STEP ** (step - 1), LOWERED if step > 1 else ""
        if epsilon == 0:
            break
        labels = cluster(distances, epsilon * _STEP**step, min_samples)
    return _dropped(first, share), epsilon, DROPPED


def _dropped(labels: np.ndarray, share: float) -> np.ndarray:
    """Return labels [N] without the giants, whose samples become outliers."""
    giant = is_giant(labels, share)
    renumbered = np.append(np.where(giant, OUTLIER, np.cumsum(~giant) - 1), OUTLIER)
    return renumbered[labels].astype(np.int64)
