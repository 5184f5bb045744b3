"""DBSCAN on a neighbour graph that arrives in blocks of edges.

Ester et al., "A density-based algorithm for discovering clusters", KDD 1996, with scikit-learn's labels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nplp.clustering.results import OUTLIER
from nplp.clustering.sweep import Distances, EdgeVisitor, compiled

__all__ = ["cluster", "cluster_and_cores", "dbscan"]


def cluster(distances: Distances, epsilon: float, min_samples: int) -> np.ndarray:
    """Return DBSCAN labels [N] int64 of samples whose distances are given piece by piece.

    Args:
        distances: among N samples.
        epsilon: radius; a pair at exactly this distance is within it.
        min_samples: neighbours that make a core sample, itself included.
    """
    return cluster_and_cores(distances, epsilon, min_samples)[0]


def cluster_and_cores(
    distances: Distances, epsilon: float, min_samples: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return what `cluster` does, and which samples are core samples [N] bool."""
    if distances.all_within(epsilon):
        is_core = np.full(len(distances), len(distances) >= min_samples)
        return np.where(is_core, 0, OUTLIER).astype(np.int64), is_core
    return _labels_and_cores(len(distances), lambda visit: distances.visit_edges(epsilon, visit), min_samples)


def dbscan(count: int, visit_edges: Callable[[EdgeVisitor], None], min_samples: int) -> np.ndarray:
    """Return DBSCAN labels with scikit-learn's numbering and border samples.

    scikit-learn grows a cluster from the lowest unlabelled core sample before it looks at the next one.
    Clusters are therefore numbered by their lowest core sample, and a border sample within reach of several
    clusters belongs to the lowest numbered one: neither needs the scan itself, nor all edges at once. One
    visit counts neighbours, a second one joins core samples.

    Args:
        count: number of samples N.
        visit_edges: gives the pairs within epsilon in blocks to what it is called with, each pair once and
            no sample with itself; called twice.
        min_samples: neighbours that make a core sample, itself included.

    Returns:
        [N] int64, -1 for outliers. Memory: O(N min_samples) however dense the graph.
    """
    return _labels_and_cores(count, visit_edges, min_samples)[0]


def _labels_and_cores(
    count: int, visit_edges: Callable[[EdgeVisitor], None], min_samples: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of `dbscan`, and which samples are core samples [N] bool."""
    degree = np.ones(count, dtype=np.int64)
    visit_edges(lambda first, second: _count_ends(first, second, degree))
    is_core = degree >= min_samples
    parent = np.arange(count, dtype=np.int64)
    # A sample that is not core has fewer than min_samples neighbours, so that all those pairs can be held.
    border: list[tuple[np.ndarray, np.ndarray]] = []

    def join(first: np.ndarray, second: np.ndarray) -> None:
        _join_core(first, second, is_core, parent)
        for outer, inner in ((first, second), (second, first)):
            reached = ~is_core[outer] & is_core[inner]
            border.append((outer[reached], inner[reached]))

    visit_edges(join)
    labels = _number_components(parent, is_core)
    nearest = np.full(count, count, dtype=np.int64)
    for outer, inner in border:
        np.minimum.at(nearest, outer, labels[inner])
    reached = nearest < count
    labels[reached] = nearest[reached]
    return labels, is_core


@compiled()
def _count_ends(first, second, degree):  # type: ignore[no-untyped-def]
    for edge in range(len(first)):
        degree[first[edge]] += 1
        degree[second[edge]] += 1


@compiled()
def _root(parent, sample):  # type: ignore[no-untyped-def]
    while parent[sample] != sample:
        parent[sample] = parent[parent[sample]]
        sample = parent[sample]
    return sample


@compiled()
def _join_core(first, second, is_core, parent):  # type: ignore[no-untyped-def]
    """Join the components of pairs of core samples; the root of a component is its lowest sample."""
    for edge in range(len(first)):
        if is_core[first[edge]] and is_core[second[edge]]:
            one, other = _root(parent, first[edge]), _root(parent, second[edge])
            if one < other:
                parent[other] = one
            else:
                parent[one] = other


@compiled()
def _number_components(parent, is_core):  # type: ignore[no-untyped-def]
    """Return labels [N]: components of core samples by their lowest sample, -1 for all other samples."""
    labels = np.full(len(parent), -1, dtype=np.int64)
    following = 0
    for sample in range(len(parent)):
        if is_core[sample]:
            root = _root(parent, sample)
            if root == sample:
                labels[sample] = following
                following += 1
            else:
                labels[sample] = labels[root]
    return labels
