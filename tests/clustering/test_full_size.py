"""The whole stage at the size of a benchmark's training set, against float64 brute force.

Memory: one float64 matrix of 12,936 x 12,936 (1.3 GB) and what scikit-learn's DBSCAN takes beside it.
"""

from __future__ import annotations

import clustering_oracle as oracle
import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.spatial.distance import cdist

from nplp.clustering import estimate_pseudo_labels

COUNT = 12_936
CAMERAS = 6
BLOCK = 512
K1, K2 = 20, 6
OPTIONS = {"alpha": 0.9 * 17 / COUNT, "beta": 0.8, "min_samples": 4, "noisy_fraction": 0.1}


def camera_features(count: int, dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features [N, D] float32 of norm 1 with an effect of the camera, and camera ids [N]."""
    rng = np.random.default_rng(dimension)
    identities = count // 17
    centres = rng.normal(size=(identities, 48)) @ rng.normal(size=(48, dimension)) / 48**0.5
    cameras = rng.integers(CAMERAS, size=count)
    x = centres[rng.permutation(np.arange(count) % identities)]
    x = x + 0.45 * rng.normal(size=(CAMERAS, dimension))[cameras]
    x = x + rng.lognormal(-0.3, 0.25, size=(count, 1)) * rng.normal(size=(count, dimension))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), cameras


def euclidean_matrix(features: np.ndarray) -> np.ndarray:
    x = features.astype(np.float64)
    matrix = np.empty((len(x), len(x)))
    for start in range(0, len(x), BLOCK):
        block = cdist(x[start : start + BLOCK], x[start:])
        matrix[start : start + BLOCK, start:] = block
        matrix[start:, start : start + BLOCK] = block.T
    return matrix


def neighbour_ranks(features: np.ndarray) -> np.ndarray:
    """Return the K1 nearest of each sample; no near tie leaves open which these are."""
    x = features.astype(np.float64)
    ranks = np.empty((len(x), K1), dtype=np.int64)
    for start in range(0, len(x), BLOCK):
        block = cdist(x[start : start + BLOCK], x)
        order = np.argsort(block, axis=1)[:, : K1 + 1]
        gaps = np.diff(np.take_along_axis(block, order, axis=1), axis=1)
        assert gaps.min() > 1e-12
        ranks[start : start + BLOCK] = order[:, :K1]
    return ranks


def jaccard_weights(features: np.ndarray, ranks: np.ndarray) -> csr_array:
    x = features.astype(np.float64)
    columns = oracle.expanded_sets(ranks, K1)
    squared = [((x[chosen] - row) ** 2).sum(axis=1) for row, chosen in zip(x, columns, strict=True)]
    near = [np.exp(-(values - values.min())) for values in squared]
    weights = np.concatenate([values / values.sum() for values in near])
    ends = np.cumsum([0, *map(len, columns)])
    plain = csr_array((weights, np.concatenate(columns), ends), shape=(len(x), len(x)))
    starts = np.arange(0, len(x) * K2 + 1, K2)
    averaging = csr_array((np.ones(len(x) * K2), ranks[:, :K2].reshape(-1), starts), shape=plain.shape)
    return csr_array(averaging @ plain / K2)


def jaccard_matrix(features: np.ndarray) -> np.ndarray:
    weights = jaccard_weights(features, neighbour_ranks(features))
    columns = weights.tocsc()
    matrix = np.empty(weights.shape)
    for i in range(len(matrix)):
        held = slice(weights.indptr[i], weights.indptr[i + 1])
        others = columns[:, weights.indices[held]]
        minima = np.minimum(others.data, np.repeat(weights.data[held], np.diff(others.indptr)))
        shared = np.bincount(others.indices, minima, minlength=len(matrix))
        matrix[i] = np.maximum(1 - shared / (2 - shared), 0)
    np.fill_diagonal(matrix, 0)
    return np.round(matrix, 12, out=matrix)


def smallest_mean(matrix: np.ndarray, cameras: np.ndarray, alpha: float) -> float:
    sizes = np.bincount(cameras)
    averaged = oracle.averaged_pairs(alpha, (len(matrix) ** 2 - int((sizes**2).sum())) // 2)
    kept = np.empty(0)
    for i, row in enumerate(matrix):
        later = row[i + 1 :][cameras[i + 1 :] != cameras[i]]
        kept = np.concatenate([kept, later])
        if len(kept) > 8 * averaged:
            kept = np.partition(kept, averaged - 1)[:averaged]
    return float(np.sort(kept)[:averaged].mean())


def near_ties(matrix: np.ndarray, radius: float) -> int:
    return sum(int((np.abs(row - radius) <= 1e-9 * radius).sum()) for row in matrix)


def test_brute_force_in_blocks_is_the_oracle() -> None:
    features, cameras = camera_features(BLOCK + 100, 16)
    np.testing.assert_allclose(euclidean_matrix(features), oracle.euclidean_matrix(features), rtol=1e-12)
    matrix = oracle.jaccard_matrix(features, K1, K2)
    np.testing.assert_allclose(jaccard_matrix(features), matrix, atol=2e-12)
    mean = oracle.smallest_mean(matrix, cameras, 0.02)
    assert smallest_mean(matrix, cameras, 0.02) == pytest.approx(mean, rel=1e-12)
    assert near_ties(np.array([[0.0, 1.0], [1.0 + 1e-12, 2.0]]), 1.0) == 2


@pytest.mark.long
@pytest.mark.parametrize("dimension", [256, 1024])
@pytest.mark.parametrize("distance", ["jaccard", "euclidean"])
def test_stage_is_brute_force_at_full_size(distance: str, dimension: int) -> None:
    features, cameras = camera_features(COUNT, dimension)
    result = estimate_pseudo_labels(features, cameras, distance=distance, k1=K1, k2=K2, **OPTIONS)
    matrix = euclidean_matrix(features) if distance == "euclidean" else jaccard_matrix(features)
    epsilon = smallest_mean(matrix, cameras, OPTIONS["alpha"])
    assert near_ties(matrix, epsilon) == 0
    assert result.epsilon_e == pytest.approx(epsilon, rel=1e-6)
    chosen = {name: value for name, value in OPTIONS.items() if name != "alpha"}
    expected = oracle.estimate(matrix, cameras, alpha=1.0, epsilon=epsilon, **chosen)
    assert expected.startup_labels.max() > 100
    assert not np.array_equal(expected.labels, expected.startup_labels)
    np.testing.assert_array_equal(result.startup_labels, expected.startup_labels)
    np.testing.assert_allclose(result.self_assessment, expected.scores, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(result.noisy_clusters, expected.noisy)
    np.testing.assert_array_equal(result.labels, expected.labels)
    assert result.dissolved_clusters.tolist() == expected.dissolved
