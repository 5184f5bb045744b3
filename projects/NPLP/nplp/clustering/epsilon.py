"""The radius of the startup stage (eq. 4), and that of the paper's peers."""

from __future__ import annotations

import math
import warnings

import numpy as np

from nplp.clustering.sweep import Distances

__all__ = ["round_half_up", "smallest_share_epsilon", "startup_epsilon"]


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


def smallest_share_epsilon(distances: Distances, share: float) -> tuple[float, int, int]:
    """Return the mean of the smallest `share` of the distances above 0 among all pairs: the rule of UDA.

    Song et al. (arXiv 1807.11334, section 3.3) set DBSCAN's radius so in the first iteration and keep it; SSG
    and MMT do the same with a share of 1.6e-3. Pairs of one camera count as all others do. The authors' code
    leaves out distances of exactly 0, those of one image found twice, before it counts the share; so does
    this. The count is rounded to the nearest integer (the upper one at a half) and is at least 1.

    Args:
        distances: among at least two samples.
        share: of the pairs above 0 to average, in (0, 1].

    Returns:
        Epsilon, the number of pairs above 0, and how many were averaged; all 0 where no pair is above 0.

    Time and memory: as eq. 4's; where some pairs are at 0, twice the time.
    """
    count = len(distances)
    pairs = count * (count - 1) // 2
    averaged = max(1, round_half_up(share * pairs))
    mean = distances.mean_of_smallest(None, averaged)
    zeros = 0

    def count_zeros(first: np.ndarray, _: np.ndarray) -> None:
        nonlocal zeros
        zeros += len(first)

    distances.visit_edges(0.0, count_zeros)
    if not zeros:
        return mean, pairs, averaged
    above = pairs - zeros
    if not above:
        return 0.0, 0, 0
    averaged = max(1, round_half_up(share * above))
    # The zeros are among the smallest, and add nothing to their sum.
    mean = distances.mean_of_smallest(None, zeros + averaged)
    return mean * (zeros + averaged) / averaged, above, averaged
