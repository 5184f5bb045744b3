"""k-reciprocal Jaccard distances against the toolbox's and a dense float64 oracle."""

from __future__ import annotations

from itertools import pairwise

import clustering_oracle as oracle
import numpy as np
import pytest
import torch
from clustering_cases import Case, cases, make_case, tiny_blocks
from hypothesis import given, settings
from hypothesis import strategies as st

from nplp.clustering.features import FeatureRows
from nplp.clustering.jaccard import JaccardDistances
from nplp.clustering.neighbours import nearest_neighbours
from nplp.clustering.reciprocal import SparseRows, reciprocal_encoding

NEIGHBOURS = [(20, 6), (5, 3), (7, 1), (1, 1), (2, 9), (3, 2), (30, 30)]


def distances_of(features: np.ndarray, k1: int, k2: int) -> JaccardDistances:
    return JaccardDistances(reciprocal_encoding(FeatureRows.plain(features), k1, k2))


def dense(distances: JaccardDistances) -> np.ndarray:
    matrix = np.ones((len(distances), len(distances)))
    np.fill_diagonal(matrix, 0)

    def fill(first: np.ndarray, second: np.ndarray, distance: np.ndarray) -> None:
        assert (first < second).all()
        assert (matrix[first, second] == 1).all()
        matrix[first, second] = matrix[second, first] = distance

    distances.visit_overlapping(fill)
    return matrix


def dense_rows(rows: SparseRows) -> np.ndarray:
    matrix = np.zeros((len(rows), len(rows)))
    matrix[np.repeat(np.arange(len(rows)), np.diff(rows.starts)), rows.columns] = rows.weights
    return matrix


@pytest.mark.parametrize(("k1", "k2"), [(20, 6), (5, 3), (7, 1), (10, 10)])
@pytest.mark.parametrize(("count", "dimension"), [(60, 8), (150, 32)])
def test_distances_are_the_toolboxes(count: int, dimension: int, k1: int, k2: int) -> None:
    compute_dist = pytest.importorskip("fastreid.utils.compute_dist")
    features = make_case(count + k1, count, dimension, cameras=1, kind="blobs").features / 3
    expected = compute_dist.compute_jaccard_distance(torch.from_numpy(features), k1, k2, search_option=3)
    np.testing.assert_allclose(dense(distances_of(features, k1, k2)), expected, atol=1e-5)


@given(cases(), st.sampled_from(NEIGHBOURS), st.booleans())
@settings(max_examples=80, deadline=None)
def test_distances_are_the_oracles_with_ties_too(case: Case, k: tuple[int, int], tiny: bool) -> None:
    with tiny_blocks(tiny):
        matrix = dense(distances_of(case.features, *k))
    np.testing.assert_allclose(matrix, oracle.jaccard_matrix(case.features, *k), atol=1e-9)


@given(cases(), st.integers(1, 70), st.booleans(), st.booleans())
@settings(max_examples=100, deadline=None)
def test_neighbours_are_sorted_by_distance_then_index(case: Case, k: int, tiny: bool, half: bool) -> None:
    with tiny_blocks(tiny):
        ranks = nearest_neighbours(FeatureRows.plain(case.features), k, half=half)
    np.testing.assert_array_equal(ranks, oracle.neighbour_ranks(case.features, k))


def test_neighbours_hand_computed() -> None:
    features = np.array([[0.0], [1.0], [3.0], [1.0], [-1.0]])
    ranks = nearest_neighbours(FeatureRows.plain(features), 3)
    # 1 and 3 are equal, and 1, 3 and 4 are equally far from 0: the lower index goes first.
    assert ranks.tolist() == [[0, 1, 3], [1, 3, 0], [2, 1, 3], [1, 3, 0], [4, 0, 1]]


def test_encoding_hand_computed() -> None:
    # Two pairs far apart, each sample's two nearest being its pair: the weights are a softmax over it.
    features = np.array([[0.0], [1.0], [50.0], [52.0]])
    one, four = 1 / (1 + np.exp(-1.0)), 1 / (1 + np.exp(-4.0))
    plain = dense_rows(reciprocal_encoding(FeatureRows.plain(features), 2, 1))
    expected = [[one, 1 - one, 0, 0], [1 - one, one, 0, 0], [0, 0, four, 1 - four], [0, 0, 1 - four, four]]
    np.testing.assert_allclose(plain, expected, atol=1e-15)
    averaged = dense_rows(reciprocal_encoding(FeatureRows.plain(features), 2, 2))
    np.testing.assert_allclose(averaged, np.kron(np.eye(2), np.full((2, 2), 0.5)), atol=1e-15)
    distance = 1 - 2 * (1 - one) / (2 - 2 * (1 - one))
    assert dense(distances_of(features, 2, 1))[0, 1] == pytest.approx(distance, abs=1e-11)


@pytest.mark.parametrize("k2", [2, 6])
def test_duplicates_are_at_distance_0(k2: int) -> None:
    features = np.repeat(np.eye(2, dtype=np.float32), 30, axis=0)
    matrix = dense(distances_of(features, 20, k2))
    np.testing.assert_array_equal(matrix, 1 - np.kron(np.eye(2), np.ones((30, 30))))


def test_weights_of_a_row_sum_to_1_and_are_sorted() -> None:
    features = make_case(0, count=60, dimension=4, cameras=1, kind="blobs").features
    weights = reciprocal_encoding(FeatureRows.plain(features), 20, 6)
    np.testing.assert_allclose(dense_rows(weights).sum(axis=1), 1, rtol=1e-12)
    assert all((np.diff(weights.columns[a:b]) > 0).all() for a, b in pairwise(weights.starts))


@given(cases(), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_cluster_sums_count_absent_pairs_as_1(case: Case, seed: int) -> None:
    distances = distances_of(case.features, 4, 2)
    matrix = dense(distances)
    labels = np.random.default_rng(seed).integers(-1, 3, size=len(matrix))
    own, total = distances.cluster_sums(labels)
    clustered = labels >= 0
    same = (labels[:, None] == labels) & clustered
    np.testing.assert_allclose(own, (matrix * same).sum(axis=1), atol=1e-10)
    np.testing.assert_allclose(total, (matrix * np.outer(clustered, clustered)).sum(axis=1), atol=1e-10)


@given(cases(), st.floats(0.001, 1), st.booleans())
@settings(max_examples=40, deadline=None)
def test_mean_of_smallest_counts_absent_pairs_as_1(case: Case, share: float, tiny: bool) -> None:
    with tiny_blocks(tiny):
        distances = distances_of(case.features, 4, 2)
        values = np.sort(dense(distances)[np.triu_indices(len(case.features), 1)])
        count = max(1, int(share * len(values)))
        mean = distances.mean_of_smallest(None, count)
    assert mean == pytest.approx(values[:count].mean(), rel=1e-12, abs=1e-15)


def test_radius_that_reaches_every_pair_is_not_enumerated() -> None:
    distances = distances_of(np.eye(4), 2, 1)
    assert distances.all_within(1.0)
    with pytest.raises(ValueError, match="all pairs are within a Jaccard distance of 1"):
        distances.visit_edges(1.0, lambda *_: None)
