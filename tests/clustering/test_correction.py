"""Correction in one pass over the edges against each noisy cluster clustered by itself."""

from __future__ import annotations

import clustering_oracle as oracle
import numpy as np
import pytest
from clustering_cases import Case, cases, make_case, threads, tiny_blocks
from hypothesis import given, settings
from hypothesis import strategies as st

from nplp.clustering.correction import correct_labels, without_clusters
from nplp.clustering.jaccard import jaccard_distances
from nplp.clustering.reciprocal import reciprocal_encoding
from nplp.clustering.sweep import Distances
from nplp.clustering.sweep.euclidean import EuclideanDistances
from nplp.clustering.sweep.features import FeatureRows


def distances_of(features: np.ndarray, jaccard: bool) -> Distances:
    rows = FeatureRows.plain(features)
    return jaccard_distances(reciprocal_encoding(rows, 5, 3)) if jaccard else EuclideanDistances(rows)


def matrix_of(features: np.ndarray, jaccard: bool) -> np.ndarray:
    return oracle.jaccard_matrix(features, 5, 3) if jaccard else oracle.euclidean_matrix(features)


def radius(matrix: np.ndarray, quantile: float) -> float:
    """Return a radius between two distances, so that no rounding decides."""
    values = np.unique(np.round(matrix[np.triu_indices(len(matrix), 1)], 9))
    place = int(quantile * (len(values) - 1))
    return float(values[place] + values[min(place + 1, len(values) - 1)]) / 2 + 1e-8


@given(
    cases(),
    st.integers(0, 2**32 - 1),
    st.floats(0, 1),
    st.integers(1, 5),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_each_noisy_cluster_is_clustered_by_itself(
    case: Case, seed: int, quantile: float, min_samples: int, jaccard: bool, keep: bool, tiny: bool
) -> None:
    rng = np.random.default_rng(seed)
    matrix = matrix_of(case.features, jaccard)
    epsilon = radius(matrix, quantile)
    startup = oracle.dbscan_labels(matrix, radius(matrix, min(1, quantile + 0.3)), 2)
    if rng.random() < 0.5:
        # Clusters that are no component of anything, with outliers among them.
        startup = rng.integers(-1, 4, size=len(matrix))
        startup = np.where(startup < 0, -1, np.searchsorted(np.unique(startup[startup >= 0]), startup))
    count = startup.max() + 1
    noisy = rng.permutation(count)[: rng.integers(0, count + 1)]
    with tiny_blocks(tiny), threads(2):
        labels, dissolved = correct_labels(
            distances_of(case.features, jaccard), startup, noisy, epsilon, min_samples, keep
        )
    if count == 0:
        np.testing.assert_array_equal(labels, -1)
        return
    expected = oracle.correct(matrix, startup, noisy, epsilon, min_samples, keep)
    np.testing.assert_array_equal(labels, expected[0])
    assert dissolved.tolist() == expected[1]
    assert labels.dtype == dissolved.dtype == np.int64


@pytest.mark.parametrize("epsilon", [1.0, 1.5])
@pytest.mark.parametrize("min_samples", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("keep", [False, True])
def test_jaccard_radius_that_reaches_all_joins_each_cluster(
    epsilon: float, min_samples: int, keep: bool
) -> None:
    features = make_case(0, count=16, dimension=3, cameras=1, kind="uniform").features
    startup = np.array([0, 1, 2, 2, -1, 1, 2, 3, 2, 2, 3, 1, -1, 2, 1, 1])
    noisy = np.array([2, 0, 3])
    labels, dissolved = correct_labels(
        distances_of(features, True), startup, noisy, epsilon, min_samples, keep
    )
    expected = oracle.correct(matrix_of(features, True), startup, noisy, epsilon, min_samples, keep)
    np.testing.assert_array_equal(labels, expected[0])
    assert dissolved.tolist() == expected[1]
    assert len(dissolved) == sum(size < min_samples for size in (1, 6, 2))


def test_startup_labels_are_not_changed() -> None:
    features = make_case(1, count=30, dimension=3, cameras=1, kind="blobs").features
    startup = np.arange(30) % 3
    labels, _ = correct_labels(distances_of(features, False), startup, np.array([1]), 0.1, 2)
    np.testing.assert_array_equal(startup, np.arange(30) % 3)
    assert not np.array_equal(labels, startup)


@pytest.mark.parametrize("noisy", [[0], [1], [0, 2]])
def test_a_radius_that_reaches_everything_keeps_large_enough_clusters(
    noisy: list[int],
) -> None:
    startup = np.array([0, 0, 1, 1, 1, 2, -1, 2])
    far = distances_of(np.arange(8, dtype=np.float32)[:, None], jaccard=True)
    assert far.all_within(1.0)
    labels, dissolved = correct_labels(far, startup, np.array(noisy), 1.0, 2, False)
    assert len(dissolved) == 0
    for cluster in range(3):
        assert len(set(labels[startup == cluster])) == 1
    assert labels.max() == 2
    assert labels[6] == -1


def test_clusters_left_out_are_outliers_and_the_others_keep_their_order() -> None:
    labels = np.array([2, 0, -1, 1, 3, 2, 1])
    assert without_clusters(labels, np.array([2, 0])).tolist() == [-1, -1, -1, 0, 1, -1, 0]
    assert without_clusters(labels, np.empty(0, dtype=np.int64)).tolist() == labels.tolist()
    assert without_clusters(labels, np.arange(4)).tolist() == [-1] * 7
