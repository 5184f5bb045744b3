"""The pseudo-label stage from its equations: float64, full matrices, loops, scikit-learn's DBSCAN."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.cluster import DBSCAN


def euclidean_matrix(features: np.ndarray) -> np.ndarray:
    x = features.astype(np.float64)
    return np.array([[np.sqrt(((a - b) ** 2).sum()) for b in x] for a in x])


def centred(features: np.ndarray, camera_ids: np.ndarray) -> np.ndarray:
    x = features.astype(np.float64)
    result = x - x.mean(axis=0)
    for camera in set(camera_ids.tolist()):
        members = camera_ids == camera
        if members.sum() >= 5:
            result[members] = x[members] - x[members].mean(axis=0)
    return result


def neighbour_ranks(features: np.ndarray, k: int) -> np.ndarray:
    matrix = euclidean_matrix(features)
    return np.array([np.lexsort((np.arange(len(row)), row))[:k] for row in matrix])


def reciprocal(ranks: np.ndarray, i: int) -> set[int]:
    return {int(j) for j in ranks[i] if i in ranks[j]}


def jaccard_weights(features: np.ndarray, k1: int, k2: int) -> np.ndarray:
    count = len(features)
    squared = euclidean_matrix(features) ** 2
    ranks = neighbour_ranks(features, k1)
    half = ranks[:, : int(np.around(k1 / 2)) + 1]
    weights = np.zeros((count, count))
    for i in range(count):
        base = reciprocal(ranks, i)
        expanded = set(base)
        for candidate in base:
            others = reciprocal(half, candidate)
            if 3 * len(others & base) > 2 * len(others):
                expanded |= others
        chosen = sorted(expanded)
        if chosen:
            near = np.exp(-(squared[i, chosen] - squared[i, chosen].min()))
            weights[i, chosen] = near / near.sum()
    if k2 == 1:
        return weights
    return np.array([weights[row[:k2]].mean(axis=0) for row in ranks])


def jaccard_matrix(features: np.ndarray, k1: int = 20, k2: int = 6) -> np.ndarray:
    weights = jaccard_weights(features, k1, k2)
    shared = np.minimum(weights[:, None], weights[None]).sum(axis=2)
    matrix = np.maximum(1 - shared / (2 - shared), 0)
    np.fill_diagonal(matrix, 0)
    # Distances that are equal but for the rounding of sums must be equal here too.
    return np.round(matrix, 12)


def distance_matrix(features: np.ndarray, distance: str, k1: int = 20, k2: int = 6) -> np.ndarray:
    return euclidean_matrix(features) if distance == "euclidean" else jaccard_matrix(features, k1, k2)


def smallest_mean(matrix: np.ndarray, camera_ids: np.ndarray | None, alpha: float) -> float:
    count = len(matrix)
    pairs = [
        matrix[i, j]
        for i in range(count)
        for j in range(i + 1, count)
        if camera_ids is None or len(set(camera_ids.tolist())) < 2 or camera_ids[i] != camera_ids[j]
    ]
    chosen = sorted(pairs)[: max(1, int(np.floor(alpha * len(pairs) + 0.5)))]
    return float(np.clip(np.mean(chosen), chosen[0], chosen[-1]))


def dbscan_labels(matrix: np.ndarray, epsilon: float, min_samples: int) -> np.ndarray:
    # scikit-learn refuses a radius of 0; the least positive one tells equal samples from others alike.
    model = DBSCAN(eps=max(epsilon, 5e-324), min_samples=min_samples, metric="precomputed")
    return model.fit_predict(matrix)


def scores(matrix: np.ndarray, labels: np.ndarray) -> np.ndarray:
    result = []
    for label in range(labels.max() + 1):
        members = np.flatnonzero(labels == label)
        others = np.flatnonzero((labels != label) & (labels != -1))
        values = []
        for i in members:
            own = [matrix[i, j] for j in members if j != i]
            if not own or not len(others):
                values.append(0.0)
                continue
            a, b = np.mean(own), np.mean(matrix[i, others])
            values.append((b - a) / max(a, b) if max(a, b) > 0 else 0.0)
        result.append(np.mean(values))
    return np.array(result)


def correct(
    matrix: np.ndarray, labels: np.ndarray, noisy: np.ndarray, epsilon: float, min_samples: int, keep: bool
) -> np.ndarray:
    parts = {}
    for index in sorted(noisy.tolist()):
        members = np.flatnonzero(labels == index)
        part = dbscan_labels(matrix[np.ix_(members, members)], epsilon, min_samples)
        if part.max() >= 0 or not keep:
            parts[index] = (members, part)
    result = np.full(len(labels), -1)
    following = 0
    for index in range(labels.max() + 1):
        if index not in parts:
            result[labels == index] = following
            following += 1
    for members, part in parts.values():
        for sub in range(part.max() + 1):
            result[members[part == sub]] = following
            following += 1
    return result


@dataclass(frozen=True)
class Expected:
    """What the stage should give."""

    epsilon: float
    startup_labels: np.ndarray
    scores: np.ndarray
    noisy: np.ndarray
    labels: np.ndarray


def estimate(
    matrix: np.ndarray,
    camera_ids: np.ndarray | None,
    *,
    alpha: float,
    beta: float = 0.5,
    min_samples: int = 4,
    noisy_fraction: float = 0.1,
    assessed: np.ndarray | None = None,
    keep: bool = False,
) -> Expected:
    epsilon = smallest_mean(matrix, camera_ids, alpha)
    startup = dbscan_labels(matrix, epsilon, min_samples)
    score = scores(matrix if assessed is None else assessed, startup)
    noisy = int(np.floor(noisy_fraction * len(score) + 0.5))
    if len(score) >= 2:
        noisy = max(1, noisy)
    order = sorted(range(len(score)), key=lambda k: (round(score[k], 9), k))[:noisy]
    labels = correct(matrix, startup, np.array(order, dtype=int), beta * epsilon, min_samples, keep)
    return Expected(epsilon, startup, score, np.array(order, dtype=int), labels)
