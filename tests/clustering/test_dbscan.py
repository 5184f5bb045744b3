"""DBSCAN from edges against scikit-learn's, label by label."""

from __future__ import annotations

import clustering_oracle as oracle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nplp.clustering.dbscan import dbscan
from nplp.clustering.distances import EdgeVisitor


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


def test_no_edge_leaves_outliers_unless_one_sample_is_enough() -> None:
    assert labels_of_edges(3, [], 2) == [-1, -1, -1]
    assert labels_of_edges(3, [], 1) == [0, 1, 2]


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 6))
@settings(max_examples=150, deadline=None)
def test_labels_are_scikit_learns(seed: int, count: int, min_samples: int) -> None:
    rng = np.random.default_rng(seed)
    adjacency = np.triu(rng.random((count, count)) < rng.choice([0.02, 0.1, 0.3]), 1)
    first, second = np.nonzero(adjacency)

    def visit_edges(visit: EdgeVisitor) -> None:
        # Another order each time, as threads give.
        for part in np.array_split(rng.permutation(len(first)), 4):
            visit(first[part], second[part])

    matrix = 1.0 - (adjacency | adjacency.T)
    np.fill_diagonal(matrix, 0)
    labels = dbscan(count, visit_edges, min_samples)
    np.testing.assert_array_equal(labels, oracle.dbscan_labels(matrix, 0.5, min_samples))


def test_blocks_of_edges_are_not_held() -> None:
    alive: list[int] = []

    class Watched(np.ndarray):
        def __del__(self) -> None:
            alive.remove(id(self))

    def visit_edges(visit: EdgeVisitor) -> None:
        for start in range(50):
            first = np.array([start]).view(Watched)
            alive.append(id(first))
            visit(np.asarray(first), np.array([start + 1]))
            del first
            peak.append(len(alive))

    peak: list[int] = []
    np.testing.assert_array_equal(dbscan(51, visit_edges, 2), 0)
    assert max(peak) <= 1


@pytest.mark.parametrize("count", [1, 5])
def test_complete_graph_is_one_cluster(count: int) -> None:
    edges = [(i, j) for i in range(count) for j in range(i + 1, count)]
    assert labels_of_edges(count, edges, count) == [0] * count
    assert labels_of_edges(count, edges, count + 1) == [-1] * count
