"""The pseudo-label stage from its equations: float64, full matrices, plain sets, scikit-learn's DBSCAN."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn import config_context
from sklearn.cluster import DBSCAN


def squared_matrix(features: np.ndarray) -> np.ndarray:
    x = features.astype(np.float64)
    return np.array([((x - row) ** 2).sum(axis=1) for row in x])


def euclidean_matrix(features: np.ndarray) -> np.ndarray:
    return np.sqrt(squared_matrix(features))


def centred(features: np.ndarray, camera_ids: np.ndarray) -> np.ndarray:
    x = features.astype(np.float64)
    result = x - x.mean(axis=0)
    for camera in set(camera_ids.tolist()):
        members = camera_ids == camera
        if members.sum() >= 5:
            result[members] = x[members] - x[members].mean(axis=0)
    return result


def neighbour_ranks(features: np.ndarray, k: int) -> np.ndarray:
    # A stable sort leaves equal distances in the order of samples.
    return np.argsort(squared_matrix(features), axis=1, kind="stable")[:, :k]


def half_of(k1: int) -> int:
    return int(np.around(k1 / 2)) + 1


def reciprocal_sets(ranks: np.ndarray) -> list[set[int]]:
    near = [set(row) for row in ranks.tolist()]
    return [{j for j in near[i] if i in near[j]} for i in range(len(near))]


def expanded_sets(ranks: np.ndarray, k1: int) -> list[list[int]]:
    whole, half = reciprocal_sets(ranks), reciprocal_sets(ranks[:, : half_of(k1)])
    result = []
    for base in whole:
        expanded = set(base)
        for candidate in base:
            others = half[candidate]
            if 3 * len(others & base) > 2 * len(others):
                expanded |= others
        result.append(sorted(expanded))
    return result


def jaccard_weights(features: np.ndarray, k1: int, k2: int) -> np.ndarray:
    squared = squared_matrix(features)
    ranks = neighbour_ranks(features, k1)
    weights = np.zeros(squared.shape)
    for i, chosen in enumerate(expanded_sets(ranks, k1)):
        if chosen:
            near = np.exp(-(squared[i, chosen] - squared[i, chosen].min()))
            weights[i, chosen] = near / near.sum()
    if k2 == 1:
        return weights
    return np.array([weights[row[:k2]].mean(axis=0) for row in ranks])


def camera_lists(
    features: np.ndarray, camera_ids: np.ndarray, k_intra: int, k_inter: int
) -> tuple[list[list[int]], list[list[int]]]:
    """Return A and B of CA-Jaccard: the sample and its nearest in its camera, and those in all others."""
    squared = squared_matrix(features)
    intra, inter = [], []
    for i, row in enumerate(squared):
        others = [j for j in np.argsort(row, kind="stable").tolist() if j != i]
        own = [j for j in others if camera_ids[j] == camera_ids[i]]
        intra.append([i, *own[:k_intra]])
        inter.append([j for j in others if camera_ids[j] != camera_ids[i]][: k_inter + 1])
    return intra, inter


def camera_jaccard_weights(
    features: np.ndarray,
    camera_ids: np.ndarray,
    k1_intra: int = 5,
    k1_inter: int = 20,
    k2_intra: int = 2,
    k2_inter: int = 4,
) -> np.ndarray:
    squared = squared_matrix(features)
    intra, inter = camera_lists(features, camera_ids, k1_intra, k1_inter)
    weights = np.zeros(squared.shape)
    for i in range(len(squared)):
        mutual = [j for lists in (intra, inter) for j in lists[i] if i in lists[j]]
        near = np.exp(-(squared[i, mutual] - squared[i, mutual].min()))
        weights[i, mutual] = near / near.sum()
    return np.array(
        [weights[intra[i][:k2_intra] + inter[i][:k2_inter]].mean(axis=0) for i in range(len(squared))]
    )


def scaled_by_camera(features: np.ndarray, camera_ids: np.ndarray) -> np.ndarray:
    x = centred(features, camera_ids)
    overall = np.sqrt((x**2).mean(axis=0))
    for camera in set(camera_ids.tolist()):
        members = camera_ids == camera
        own = x[members].std(axis=0)
        deviation = np.where((members.sum() < 20) | (own < 1e-6 * np.abs(features).max()), overall, own)
        x[members] = x[members] / np.where(deviation > 1e-6 * np.abs(features).max(), deviation, np.inf)
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(lengths > 0, lengths, 1)


def unrounded_jaccard_matrix(features: np.ndarray, k1: int, k2: int) -> np.ndarray:
    return matrix_of_weights(jaccard_weights(features, k1, k2))


def camera_jaccard_matrix(features: np.ndarray, camera_ids: np.ndarray, *sizes: int) -> np.ndarray:
    return np.round(matrix_of_weights(camera_jaccard_weights(features, camera_ids, *sizes)), 12)


def matrix_of_weights(weights: np.ndarray) -> np.ndarray:
    """Return 1 - intersection over union of all pairs of rows."""
    shared = np.zeros(weights.shape)
    for i, row in enumerate(weights):
        held = row > 0
        shared[i, i:] = np.minimum(weights[i:, held], row[held]).sum(axis=1)
    shared = np.triu(shared) + np.triu(shared, 1).T
    matrix = np.maximum(1 - shared / (2 - shared), 0)
    np.fill_diagonal(matrix, 0)
    return matrix


def jaccard_matrix(features: np.ndarray, k1: int = 20, k2: int = 6) -> np.ndarray:
    # Distances that are equal but for the rounding of sums must be equal here too.
    return np.round(unrounded_jaccard_matrix(features, k1, k2), 12)


def distance_matrix(features: np.ndarray, distance: str, k1: int = 20, k2: int = 6) -> np.ndarray:
    return euclidean_matrix(features) if distance == "euclidean" else jaccard_matrix(features, k1, k2)


def half_up(value: float) -> int:
    return int(np.floor(value + 0.5))


def compared_pairs(count: int, camera_ids: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs i < j of eq. 4."""
    first, second = np.triu_indices(count, 1)
    if camera_ids is None or (camera_ids == camera_ids[0]).all():
        return first, second
    across = camera_ids[first] != camera_ids[second]
    return first[across], second[across]


def averaged_pairs(alpha: float, pairs: int) -> int:
    return max(1, half_up(alpha * pairs))


def smallest_mean(matrix: np.ndarray, camera_ids: np.ndarray | None, alpha: float) -> float:
    values = np.sort(matrix[compared_pairs(len(matrix), camera_ids)])
    chosen = values[: averaged_pairs(alpha, len(values))]
    return float(np.clip(np.mean(chosen), chosen[0], chosen[-1]))


def dbscan_labels(matrix: np.ndarray, epsilon: float, min_samples: int) -> np.ndarray:
    # scikit-learn refuses a radius of 0; the least positive one tells equal samples from others alike.
    with config_context(assume_finite=True, skip_parameter_validation=True):
        model = DBSCAN(eps=max(epsilon, 5e-324), min_samples=min_samples, metric="precomputed")
        return model.fit_predict(matrix)


def sample_scores(own: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return (b - a) / max(a, b) of the samples of a cluster, a and b being their mean distances.

    Args:
        own: [M, M] distances within the cluster.
        others: [M, ...] distances to the clustered samples outside it.
    """
    size = len(own)
    if size == 1 or not others.shape[1]:
        return np.zeros(size)
    a, b = own.sum(axis=1) / (size - 1), others.mean(axis=1)
    greater = np.maximum(a, b)
    return np.divide(b - a, greater, out=np.zeros(size), where=greater > 0)


def scores(matrix: np.ndarray, labels: np.ndarray) -> np.ndarray:
    result = []
    for label in range(labels.max() + 1):
        members = np.flatnonzero(labels == label)
        others = np.flatnonzero((labels != label) & (labels != -1))
        rows = matrix[members]
        result.append(np.mean(sample_scores(rows[:, members], rows[:, others])))
    return np.array(result)


def lowest_scores(score: np.ndarray, noisy_fraction: float) -> np.ndarray:
    noisy = half_up(noisy_fraction * len(score))
    if len(score) >= 2:
        noisy = max(1, noisy)
    order = sorted(range(len(score)), key=lambda k: (round(score[k], 9), k))
    return np.array(order[:noisy], dtype=int)


def correct(
    matrix: np.ndarray, labels: np.ndarray, noisy: np.ndarray, epsilon: float, min_samples: int, keep: bool
) -> tuple[np.ndarray, list[int]]:
    """Return the corrected labels and the clusters that dissolved."""
    parts, dissolved = {}, []
    for index in sorted(noisy.tolist()):
        members = np.flatnonzero(labels == index)
        part = dbscan_labels(matrix[np.ix_(members, members)], epsilon, min_samples)
        if part.max() < 0:
            dissolved.append(index)
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
    return result, dissolved


def rejoin(matrix: np.ndarray, startup: np.ndarray, labels: np.ndarray, epsilon: float) -> np.ndarray:
    """Return labels in which outliers of correction join the sub-cluster of most neighbours."""
    result = labels.copy()
    for i in np.flatnonzero((startup >= 0) & (labels < 0)):
        mates = (startup == startup[i]) & (labels >= 0) & (matrix[i] <= epsilon)
        votes = {part: int((labels[mates] == part).sum()) for part in sorted(set(labels[mates].tolist()))}
        if votes:
            result[i] = max(votes, key=lambda part: votes[part])
    return result


@dataclass(frozen=True)
class Expected:
    """What the stage should give."""

    epsilon: float
    startup_labels: np.ndarray
    scores: np.ndarray
    noisy: np.ndarray
    labels: np.ndarray
    dissolved: list[int]


def estimate(
    matrix: np.ndarray,
    camera_ids: np.ndarray | None,
    *,
    alpha: float,
    beta: float = 0.5,
    min_samples: int = 4,
    noisy_fraction: float = 0.1,
    assessed: np.ndarray | None = None,
    corrected: np.ndarray | None = None,
    keep: bool = False,
    rejoined: bool = False,
    epsilon: float | None = None,
) -> Expected:
    if epsilon is None:
        epsilon = smallest_mean(matrix, camera_ids, alpha)
    startup = dbscan_labels(matrix, epsilon, min_samples)
    score = scores(matrix if assessed is None else assessed, startup)
    noisy = lowest_scores(score, noisy_fraction)
    again, epsilon_c = matrix, beta * epsilon
    if corrected is not None:
        again, epsilon_c = corrected, beta * smallest_mean(corrected, camera_ids, alpha)
    labels, dissolved = correct(again, startup, noisy, epsilon_c, min_samples, keep)
    if rejoined:
        labels = rejoin(matrix, startup, labels, epsilon)
    return Expected(epsilon, startup, score, noisy, labels, dissolved)
