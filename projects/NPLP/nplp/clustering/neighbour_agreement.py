"""How far two features of the same images agree about who is near whom.

Cho et al., "Part-based Pseudo Label Refinement for Unsupervised Person Re-identification" (PPLR), CVPR 2022,
arXiv 2203.14675, eq. 3.

Shapes: N samples, k neighbours, D values of a feature.
"""

from __future__ import annotations

import numpy as np

from nplp.clustering.inputs import as_features, check_at_least
from nplp.clustering.sweep import FeatureRows, Progress, nearest_neighbours

__all__ = ["nearest_others", "neighbour_agreement"]

_ROWS_AT_ONCE = 2048


def nearest_others(features: np.ndarray, k: int, progress: Progress | None = None) -> np.ndarray:
    """Return the k nearest samples of each sample, itself not among them.

    Args:
        features: [N, D] float32 or float64, N >= 2; nearness is Euclidean.
        k: at least 1; more than N - 1 count as N - 1.
        progress: shows a bar.

    Returns:
        [N, min(k, N - 1)] int32, nearest first. Among copies of a sample those of the lowest numbers are
        taken. Memory: that of `nearest_neighbours`.
    """
    check_at_least("k", k, 1)
    ranks = nearest_neighbours(FeatureRows.plain(as_features(features)), k + 1, progress)
    own = ranks == np.arange(len(ranks))[:, None]
    # A sample that its copies push out of its own list leaves the last place instead.
    own[~own.any(axis=1), -1] = True
    return ranks[~own].reshape(len(ranks), ranks.shape[1] - 1)


def neighbour_agreement(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return |A & B| / |A | B| of each sample's neighbours A by one feature and B by another.

    Args:
        first: [N, k] integers, no sample twice in a row, as `nearest_others` gives them.
        second: likewise.

    Returns:
        [N] float64 in [0, 1].

    Raises:
        ValueError: if the shapes differ.

    Memory: k x k values for each of 2,048 samples at a time.
    """
    if first.shape != second.shape or first.ndim != 2 or not first.shape[1]:
        raise ValueError(
            f"neighbours must be [N, k], k >= 1, twice, got shapes {first.shape} and {second.shape}"
        )
    shared = np.empty(len(first), dtype=np.int64)
    for start in range(0, len(first), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        shared[rows] = (first[rows, :, None] == second[rows, None, :]).sum(axis=(1, 2))
    return shared / (2 * first.shape[1] - shared)
