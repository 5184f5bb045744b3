"""DBSCAN from edges against scikit-learn's, label by label."""

from __future__ import annotations

import weakref

import clustering_oracle as oracle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nplp.clustering.dbscan import cluster, dbscan
from nplp.clustering.sweep import EdgeVisitor


def labels_of_edges(count: int, edges: list[tuple[int, int]], min_samples: int) -> list[int]:
    first, second = np.array(edges, dtype=np.int64).reshape(-1, 2).T
    return dbscan(count, lambda visit: visit(first, second), min_samples).tolist()


def test_border_sample_belongs_to_the_lower_cluster() -> None:
    # Two stars of 3 with centres 1 and 5 reach sample 3; neither of the leaves is core at 4.
    edges = [(0, 1), (1, 2), (1, 3), (4, 5), (5, 6), (3, 5)]
    assert labels_of_edges(7, edges, 4) == [0, 0, 0, 0, 1, 1, 1]


def test_clusters_are_numbered_by_their_lowest_core_sample() -> None:
    # Sample 0 is only a border sample of the cluster whose core is 6; the core 2 comes first.
    edges = [(0, 6), (5, 6), (4, 6), (1, 2), (2, 3), (2, 7)]
    assert labels_of_edges(8, edges, 4) == [1, 0, 0, 0, 1, 1, 1, 0]


def test_border_samples_do_not_join_clusters() -> None:
    # 3 is within reach of the cores 2 and 4, but has only these two.
    edges = [(0, 1), (0, 2), (1, 2), (2, 3), (3, 4), (4, 5), (4, 6), (5, 6)]
    assert labels_of_edges(7, edges, 4) == [0, 0, 0, 0, 1, 1, 1]


def test_no_edge_leaves_outliers_unless_one_sample_is_enough() -> None:
    assert labels_of_edges(3, [], 2) == [-1, -1, -1]
    assert labels_of_edges(3, [], 1) == [0, 1, 2]


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 40),
    st.integers(1, 6),
    st.sampled_from([np.int32, np.int64]),
)
@settings(max_examples=150, deadline=None)
def test_labels_are_scikit_learns(seed: int, count: int, min_samples: int, kind: type) -> None:
    rng = np.random.default_rng(seed)
    adjacency = np.triu(rng.random((count, count)) < rng.choice([0.02, 0.1, 0.3]), 1)
    first, second = (part.astype(kind) for part in np.nonzero(adjacency))

    def visit_edges(visit: EdgeVisitor) -> None:
        # In another order each time.
        order = rng.permutation(len(first))
        for part in np.array_split(order, 4):
            visit(first[part], second[part])

    matrix = 1.0 - (adjacency | adjacency.T)
    np.fill_diagonal(matrix, 0)
    labels = dbscan(count, visit_edges, min_samples)
    np.testing.assert_array_equal(labels, oracle.dbscan_labels(matrix, 0.5, min_samples))
    assert labels.dtype == np.int64


def test_long_chain_is_one_cluster_in_any_order() -> None:
    count = 100_000
    order = np.random.default_rng(0).permutation(count - 1)
    for first in (np.arange(count - 1), np.arange(count - 1)[::-1], order):
        labels = dbscan(count, lambda visit, first=first: visit(first, first + 1), 3)
        np.testing.assert_array_equal(labels, 0)


class Watched(np.ndarray):
    """An array that weak references can watch."""


def test_edges_between_core_samples_are_not_held() -> None:
    edges: list[weakref.ref[Watched]] = []
    peak = []

    def visit_edges(visit: EdgeVisitor) -> None:
        for start in range(50):
            first = np.array([start]).view(Watched)
            edges.append(weakref.ref(first))
            visit(first, np.array([start + 1]))
            peak.append(sum(edge() is not None for edge in edges))

    labels = dbscan(51, visit_edges, 2)
    np.testing.assert_array_equal(labels, 0)
    assert len(peak) == 100
    assert max(peak) <= 2


@pytest.mark.parametrize("count", [1, 5])
def test_complete_graph_is_one_cluster(count: int) -> None:
    edges = [(i, j) for i in range(count) for j in range(i + 1, count)]
    assert labels_of_edges(count, edges, count) == [0] * count
    assert labels_of_edges(count, edges, count + 1) == [-1] * count


class Everywhere:
    """Distances of which all are known to be within any radius of 1 or more."""

    def __len__(self) -> int:
        return 5

    def all_within(self, epsilon: float) -> bool:
        return epsilon >= 1

    def visit_edges(self, epsilon: float, visit: EdgeVisitor) -> None:
        assert epsilon < 1
        visit(np.array([1, 1]), np.array([2, 3]))


@pytest.mark.parametrize(
    ("epsilon", "min_samples", "expected"),
    [(1.0, 5, [0] * 5), (1.0, 6, [-1] * 5), (0.5, 3, [-1, 0, 0, 0, -1])],
)
def test_pairs_that_are_known_to_be_near_are_not_visited(
    epsilon: float, min_samples: int, expected: list[int]
) -> None:
    assert cluster(Everywhere(), epsilon, min_samples).tolist() == expected
