"""The radius of the startup stage (eq. 4)."""

from __future__ import annotations

import math
import warnings

import numpy as np

from nplp.clustering.sweep import Distances

__all__ = ["round_half_up", "startup_epsilon"]


def round_half_up(value: float) -> int:
    """Return the nearest integer, the upper one at a half."""
    return math.floor(value + 0.5)


def startup_epsilon(
    distances: Distances, camera_ids: np.ndarray | None, alpha: float
) -> tuple[float, int, int]:
    """Return epsilon_e = 1 / (alpha N) sum of the alpha N smallest cross-camera distances (eq. 4).

    Pairs are unordered, and N counts those of different cameras only. alpha N is rounded to the nearest
    integer (the upper one at a half) and is at least 1. Without such pairs, be it that cameras are unknown or
    that there is only one, all pairs take their place, with a warning.

    Args:
        distances: among the samples.
        camera_ids: [number of samples] int64, or None where cameras are unknown.
        alpha: share of the pairs, in (0, 1].

    Returns:
        epsilon_e, the number of pairs N, and how many were averaged.
    """
    count = len(distances)
    pairs = count * (count - 1) // 2
    if camera_ids is not None:
        sizes = np.unique(camera_ids, return_counts=True)[1].astype(object)
        across = pairs - int((sizes * (sizes - 1) // 2).sum())
        camera_ids, pairs = (camera_ids, across) if across else (None, pairs)
    if camera_ids is None:
        warnings.warn(
            "camera_ids are None or all the same: epsilon (eq. 4) is averaged over pairs of all images, "
            "not over pairs of different cameras",
            stacklevel=4,  # the caller of estimate_pseudo_labels
        )
    averaged = max(1, round_half_up(alpha * pairs))
    return distances.mean_of_smallest(camera_ids, averaged), pairs, averaged
