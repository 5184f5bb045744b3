"""The pseudo-label stage as it is usually written: full matrices, a sort, scikit-learn, dense sums.

Shapes: N images, D dimensions, c clusters.
"""

from __future__ import annotations

import importlib

import numpy as np
import torch
from sklearn.cluster import DBSCAN

__all__ = ["StartupAndFinal", "needed_memory", "usual_euclidean", "usual_jaccard"]

StartupAndFinal = tuple[np.ndarray, np.ndarray]
"""Labels [N] before and after correction."""

BETA = 0.5
MIN_SAMPLES = 4
NOISY_FRACTION = 0.1
_MATRICES = {"euclidean": 3.5, "jaccard": 4.0}


def needed_memory(distance: str, count: int) -> int:
    """Return about how many bytes the usual way takes at its peak: N x N float32 a few times."""
    return int(_MATRICES[distance] * 4 * count**2)


def usual_euclidean(features: torch.Tensor, camera_ids: np.ndarray, alpha: float) -> StartupAndFinal:
    """Return labels [N] int64 before and after correction, by Euclidean distances, in float32.

    Args:
        features: [N, D] float32, on the CPU.
        camera_ids: [N] integers.
        alpha: share of the cross-camera pairs that eq. 4 averages.
    """
    squares = features.square().sum(dim=1)
    matrix = squares[:, None] + squares
    matrix.addmm_(features, features.T, beta=1, alpha=-2).clamp_(min=0).sqrt_()
    return _pseudo_labels(matrix.numpy(), camera_ids, alpha)


def usual_jaccard(features: torch.Tensor, camera_ids: np.ndarray, alpha: float) -> StartupAndFinal:
    """Return the same by the toolbox's k-reciprocal Jaccard distances; see `usual_euclidean`."""
    # The toolbox imports on current libraries once nplp has been: that is what nplp.host is for.
    importlib.import_module("nplp.host")
    toolbox = importlib.import_module("fastreid.utils.compute_dist")
    matrix = toolbox.compute_jaccard_distance(features, k1=20, k2=6, search_option=3)
    return _pseudo_labels(matrix, camera_ids, alpha)


def _pseudo_labels(matrix: np.ndarray, camera_ids: np.ndarray, alpha: float) -> StartupAndFinal:
    """Return labels [N] after either stage, from distances [N, N] float32."""
    np.fill_diagonal(matrix, 0)
    epsilon = _epsilon(matrix, camera_ids, alpha)
    labels = _dbscan(matrix, epsilon)
    noisy = np.argsort(_scores(matrix, labels))[: _number_noisy(labels)]
    return labels, _corrected(matrix, labels, noisy, BETA * epsilon)


def _epsilon(matrix: np.ndarray, camera_ids: np.ndarray, alpha: float) -> float:
    """Return the mean of the alpha N smallest cross-camera distances (eq. 4)."""
    across = np.triu(camera_ids[:, None] != camera_ids, k=1)
    values = matrix[across]
    values.sort()
    return float(values[: max(1, round(alpha * len(values)))].mean(dtype=np.float64))


def _dbscan(matrix: np.ndarray, epsilon: float) -> np.ndarray:
    """Return scikit-learn's labels [N]."""
    # scikit-learn refuses a radius of 0.
    radius = max(epsilon, float(np.finfo(np.float32).tiny))
    return DBSCAN(eps=radius, min_samples=MIN_SAMPLES, metric="precomputed", n_jobs=-1).fit_predict(matrix)


def _scores(matrix: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the score of each cluster [c] (eqs. 6-8)."""
    clustered = labels >= 0
    total = matrix @ clustered.astype(matrix.dtype)
    scores = np.zeros(labels.max() + 1)
    for label in range(len(scores)):
        members = np.flatnonzero(labels == label)
        others = clustered.sum() - len(members)
        if not others or len(members) < 2:
            continue
        own = matrix[np.ix_(members, members)].sum(axis=1)
        inner, outer = own / (len(members) - 1), (total[members] - own) / others
        greater = np.maximum(inner, outer)
        scores[label] = np.mean((outer - inner) / np.where(greater > 0, greater, 1))
    return scores


def _number_noisy(labels: np.ndarray) -> int:
    """Return K, of at least one where there are two clusters."""
    clusters = labels.max() + 1
    return max(int(clusters >= 2), int(NOISY_FRACTION * clusters + 0.5))


def _corrected(matrix: np.ndarray, labels: np.ndarray, noisy: np.ndarray, epsilon: float) -> np.ndarray:
    """Return labels [N] with the noisy clusters replaced by their sub-clusters (eq. 9)."""
    result, following = labels.astype(np.int64), labels.max() + 1
    for label in noisy:
        members = np.flatnonzero(labels == label)
        part = _dbscan(matrix[np.ix_(members, members)], epsilon)
        result[members] = np.where(part < 0, -1, part + following)
        following += part.max() + 1
    inside = result >= 0
    result[inside] = np.unique(result[inside], return_inverse=True)[1]
    return result
