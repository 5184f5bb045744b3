"""k-reciprocal Jaccard distances against the toolbox's and a dense float64 oracle."""

from __future__ import annotations

import clustering_oracle as oracle
import numpy as np
import pytest
import torch
from clustering_cases import Case, cases, make_case, threads, tiny_blocks
from hypothesis import given, settings
from hypothesis import strategies as st

from nplp.clustering.jaccard import jaccard_distances
from nplp.clustering.reciprocal import reciprocal_encoding
from nplp.clustering.sweep import SparseDistances
from nplp.clustering.sweep.features import FeatureRows

NEIGHBOURS = [(20, 6), (5, 3), (7, 1), (1, 1), (2, 9), (3, 2), (30, 30)]


def distances_of(features: np.ndarray, k1: int, k2: int) -> SparseDistances:
    return jaccard_distances(reciprocal_encoding(FeatureRows.plain(features), k1, k2))


def dense(distances: SparseDistances) -> np.ndarray:
    matrix = np.ones((len(distances), len(distances)))
    np.fill_diagonal(matrix, 0)

    def visit(first: np.ndarray, second: np.ndarray, distance: np.ndarray) -> None:
        assert (first < second).all()
        assert (distance < 1).all()
        assert (matrix[first, second] == 1).all()
        matrix[first, second] = matrix[second, first] = distance

    distances.visit_pairs(visit)
    return matrix


def edge_list(distances: SparseDistances, epsilon: float) -> list[tuple[int, int]]:
    edges: list[tuple[int, int]] = []
    distances.visit_edges(epsilon, lambda i, j: edges.extend(zip(i.tolist(), j.tolist(), strict=True)))
    return edges


@pytest.mark.parametrize(("k1", "k2"), [(20, 6), (5, 3), (7, 1), (10, 10)])
@pytest.mark.parametrize(("count", "dimension"), [(60, 8), (150, 32)])
def test_distances_are_the_toolboxes(count: int, dimension: int, k1: int, k2: int) -> None:
    compute_dist = pytest.importorskip("fastreid.utils.compute_dist")
    features = make_case(count + k1, count, dimension, cameras=1, kind="blobs").features / 3
    expected = compute_dist.compute_jaccard_distance(torch.from_numpy(features), k1, k2, search_option=3)
    np.testing.assert_allclose(dense(distances_of(features, k1, k2)), expected, atol=1e-5)


@given(cases(), st.sampled_from(NEIGHBOURS), st.booleans(), st.integers(1, 3))
@settings(max_examples=80, deadline=None)
def test_distances_are_the_oracles_with_ties_too(
    case: Case, k: tuple[int, int], tiny: bool, number: int
) -> None:
    with tiny_blocks(tiny), threads(number):
        matrix = dense(distances_of(case.features, *k))
    np.testing.assert_allclose(matrix, oracle.jaccard_matrix(case.features, *k), atol=1e-9)


def test_distance_hand_computed() -> None:
    # Each sample's two nearest are its pair: the weights of 0 are (one, 1 - one), those of 1 the reverse.
    one = 1 / (1 + np.exp(-1.0))
    distances = distances_of(np.array([[0.0], [1.0], [50.0], [52.0]]), 2, 1)
    assert dense(distances)[0, 1] == pytest.approx(1 - 2 * (1 - one) / (2 - 2 * (1 - one)), abs=1e-11)
    assert dense(distances)[0, 2] == 1


@pytest.mark.parametrize("k2", [2, 6])
def test_duplicates_are_at_distance_0(k2: int) -> None:
    features = np.repeat(np.eye(2, dtype=np.float32), 30, axis=0)
    matrix = dense(distances_of(features, 20, k2))
    np.testing.assert_array_equal(matrix, 1 - np.kron(np.eye(2), np.ones((30, 30))))


@given(cases(), st.floats(0, 1), st.booleans())
@settings(max_examples=60, deadline=None)
def test_edges_at_the_radius_itself_are_within_it(case: Case, quantile: float, tiny: bool) -> None:
    with tiny_blocks(tiny), threads(2):
        distances = distances_of(case.features, 5, 2)
        matrix = dense(distances)
        near = np.sort(matrix[np.triu_indices(len(matrix), 1)])
        near = near[near < 1]
        if not len(near):
            return
        epsilon = near[int(quantile * (len(near) - 1))]
        for radius in (epsilon, np.nextafter(epsilon, -1)):
            edges = edge_list(distances, radius)
            expected = np.argwhere(np.triu(matrix <= radius, 1)).tolist()
            assert sorted(map(list, edges)) == expected


def test_pairs_are_the_same_whether_held_or_not() -> None:
    features = make_case(0, count=80, dimension=6, cameras=1, kind="blobs").features
    held = distances_of(features, 8, 3)
    matrix, edges, mean = dense(held), sorted(edge_list(held, 0.7)), held.mean_of_smallest(None, 500)
    with tiny_blocks(), threads(2):
        other = distances_of(features, 8, 3)
        for _ in range(2):
            np.testing.assert_array_equal(dense(other), matrix)
            assert sorted(edge_list(other, 0.7)) == edges
        assert other.mean_of_smallest(None, 500) == pytest.approx(mean, rel=1e-15)


@given(cases(), st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=40, deadline=None)
def test_cluster_sums_count_absent_pairs_as_1(case: Case, seed: int, tiny: bool) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, 3, size=len(case.features))
    members = rng.permutation(np.flatnonzero(labels >= 0))[:7]
    with tiny_blocks(tiny), threads(2):
        distances = distances_of(case.features, 4, 2)
        matrix = dense(distances)
        own, total = distances.cluster_sums(labels)
        exact = distances.exact_cluster_sums(labels, members)
    clustered = labels >= 0
    same = (labels[:, None] == labels) & clustered
    np.testing.assert_allclose(own, (matrix * same).sum(axis=1), atol=1e-10)
    np.testing.assert_allclose(total, (matrix * np.outer(clustered, clustered)).sum(axis=1), atol=1e-10)
    assert distances.sums_are_exact
    np.testing.assert_array_equal(exact, (own[members], total[members]))


def test_cluster_sums_do_not_depend_on_blocks_or_threads() -> None:
    case = make_case(1, count=100, dimension=6, cameras=1, kind="blobs")
    labels = np.random.default_rng(0).integers(-1, 4, size=100)
    usual = distances_of(case.features, 9, 3).cluster_sums(labels)
    for number in (1, 2, 3):
        with tiny_blocks(), threads(number):
            np.testing.assert_array_equal(distances_of(case.features, 9, 3).cluster_sums(labels), usual)


@given(cases(), st.floats(0.001, 1), st.booleans(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_mean_of_smallest_counts_absent_pairs_as_1(
    case: Case, share: float, across: bool, tiny: bool
) -> None:
    cameras = case.camera_ids if across else None
    first, second = np.triu_indices(len(case.features), 1)
    if across:
        crossing = case.camera_ids[first] != case.camera_ids[second]
        if not crossing.any():
            return
        first, second = first[crossing], second[crossing]
    with tiny_blocks(tiny), threads(2):
        distances = distances_of(case.features, 4, 2)
        values = np.sort(dense(distances)[first, second])
        count = max(1, int(share * len(values)))
        mean = distances.mean_of_smallest(cameras, count)
    assert mean == pytest.approx(values[:count].mean(), rel=1e-12, abs=1e-15)
    if values[0] == values[count - 1]:
        assert mean == values[0]


def test_radius_that_reaches_every_pair_is_not_enumerated() -> None:
    distances = distances_of(np.eye(4), 2, 1)
    assert distances.all_within(1.0)
    assert not distances.all_within(np.nextafter(1.0, 0))
    with pytest.raises(ValueError, match="all pairs are within a distance of 1"):
        edge_list(distances, 1.0)
