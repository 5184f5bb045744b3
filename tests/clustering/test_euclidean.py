"""Blocked Euclidean distances against differences in float64."""

from __future__ import annotations

import clustering_oracle as oracle
import numpy as np
import pytest
from clustering_cases import Case, cases, tiny_blocks
from hypothesis import given, settings
from hypothesis import strategies as st

from nplp.clustering.euclidean import EuclideanDistances
from nplp.clustering.features import FeatureRows


def distances_of(features: np.ndarray) -> EuclideanDistances:
    return EuclideanDistances(FeatureRows.plain(features))


def edge_set(distances: EuclideanDistances, epsilon: float) -> list[tuple[int, int]]:
    edges: list[tuple[int, int]] = []
    distances.visit_edges(epsilon, lambda i, j: edges.extend(zip(i.tolist(), j.tolist(), strict=True)))
    return edges


def exact(features: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.sqrt(FeatureRows.plain(features).squared_distances(first, second))


@given(cases(), st.floats(0, 1), st.booleans())
@settings(max_examples=60, deadline=None)
def test_edges_at_the_radius_itself_are_within_it(case: Case, quantile: float, tiny: bool) -> None:
    matrix = oracle.euclidean_matrix(case.features)
    upper = np.triu(np.ones(matrix.shape, dtype=bool), 1)
    distances = distances_of(case.features)
    i, j = np.argwhere(upper)[int(quantile * (upper.sum() - 1))]
    # The pair's own distance as the stage has it: the boundary is met to the last bit.
    epsilon = float(exact(case.features, np.array([i]), np.array([j]))[0])
    with tiny_blocks(tiny):
        edges = edge_set(distances, epsilon)
    assert len(set(edges)) == len(edges)
    assert (i, j) in edges
    near = upper & (matrix <= epsilon)
    unlike = set(edges) ^ {(int(a), int(b)) for a, b in np.argwhere(near)}
    assert all(matrix[pair] == pytest.approx(epsilon, rel=1e-14) for pair in unlike)


@given(cases(), st.floats(0.001, 1), st.booleans())
@settings(max_examples=60, deadline=None)
def test_mean_of_smallest_is_the_sorted_mean(case: Case, share: float, tiny: bool) -> None:
    matrix = oracle.euclidean_matrix(case.features)
    values = np.sort(matrix[np.triu_indices(len(matrix), 1)])
    count = max(1, int(share * len(values)))
    with tiny_blocks(tiny):
        mean = distances_of(case.features).mean_of_smallest(None, count)
    # Tiny blocks hold few values, and those below the bracket are then known by an approximate sum.
    assert mean == pytest.approx(values[:count].mean(), rel=1e-6 if tiny else 1e-12, abs=1e-300)


def test_a_pair_is_outside_the_next_smaller_radius() -> None:
    features = np.random.default_rng(0).normal(size=(30, 16))
    distances = distances_of(features)
    first, second = np.triu_indices(30, 1)
    for i, j, distance in zip(first, second, exact(features, first, second), strict=True):
        assert (i, j) in edge_set(distances, distance)
        assert (i, j) not in edge_set(distances, np.nextafter(distance, 0))


def test_one_far_sample_costs_no_digit_among_the_near_ones() -> None:
    rng = np.random.default_rng(0)
    near = rng.normal(size=(40, 4)) * 1e-5
    features = np.concatenate([near, near + 1e-4, [[1e4] * 4]])
    labels = np.repeat([0, 1, 2], [40, 40, 1])
    matrix = oracle.euclidean_matrix(features)
    own, total = distances_of(features).cluster_sums(labels)
    expected = [(matrix[i] * (labels == labels[i])).sum() for i in range(81)]
    np.testing.assert_allclose(own, expected, rtol=1e-6)
    np.testing.assert_allclose(total, matrix.sum(axis=1), rtol=1e-6)
    assert distances_of(features).mean_of_smallest(None, 3) < 1e-5


@given(cases(), st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=40, deadline=None)
def test_cluster_sums_leave_outliers_out(case: Case, seed: int, tiny: bool) -> None:
    labels = np.random.default_rng(seed).integers(-1, 3, size=len(case.features))
    matrix = oracle.euclidean_matrix(case.features)
    with tiny_blocks(tiny):
        own, total = distances_of(case.features).cluster_sums(labels)
    clustered = labels >= 0
    same = (labels[:, None] == labels) & clustered
    # A sum is as exact as its largest terms.
    expected = (matrix * np.outer(clustered, clustered)).sum(axis=1)
    np.testing.assert_allclose(own, (matrix * same).sum(axis=1), rtol=2e-6, atol=1e-9 * matrix.max())
    np.testing.assert_allclose(total, expected, rtol=2e-6, atol=1e-9 * matrix.max())


@given(cases(), st.integers(0, 2**32 - 1), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_sums_are_the_same_after_the_sweep_of_epsilon(case: Case, seed: int, outliers: float) -> None:
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(len(case.features)) < outliers, -1, rng.integers(3, size=len(case.features)))
    matrix = oracle.euclidean_matrix(case.features)
    with tiny_blocks():
        distances = EuclideanDistances(FeatureRows.plain(case.features), keep_sums=True)
        distances.mean_of_smallest(None, 1)
        _, total = distances.cluster_sums(labels)
    clustered = labels >= 0
    expected = (matrix * np.outer(clustered, clustered)).sum(axis=1)
    np.testing.assert_allclose(total, expected, rtol=5e-6, atol=2e-6 * len(matrix) * matrix.max())
    members = np.flatnonzero(clustered)
    _, settled = distances.exact_cluster_sums(labels, members)
    np.testing.assert_allclose(settled, expected[members], rtol=1e-12, atol=1e-300)


def test_no_radius_is_known_to_reach_all() -> None:
    assert not distances_of(np.eye(3)).all_within(1e9)
