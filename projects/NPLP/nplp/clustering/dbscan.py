"""DBSCAN on a neighbour graph that arrives in blocks of edges.

Ester et al., "A density-based algorithm for discovering clusters", KDD 1996, with scikit-learn's labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from nplp.clustering.distances import Distances, EdgeBlock
from nplp.clustering.results import OUTLIER

__all__ = ["cluster", "dbscan"]

_MIN_EDGE_BUDGET = 1 << 22
_EDGES_PER_SAMPLE = 256


def cluster(distances: Distances, epsilon: float, min_samples: int) -> np.ndarray:
    """Return DBSCAN labels [N] int64 of samples whose distances are given piece by piece.

    Args:
        distances: among N samples.
        epsilon: radius; a pair at exactly this distance is within it.
        min_samples: neighbours that make a core sample, itself included.
    """
    if distances.all_within(epsilon):
        label = 0 if len(distances) >= min_samples else OUTLIER
        return np.full(len(distances), label, dtype=np.int64)
    return dbscan(len(distances), lambda: distances.edges_within(epsilon), min_samples)


def dbscan(
    count: int,
    edge_blocks: Callable[[], Iterable[EdgeBlock]],
    min_samples: int,
    edge_budget: int | None = None,
) -> np.ndarray:
    """Return DBSCAN labels with scikit-learn's numbering and border samples.

    scikit-learn grows a cluster from the lowest unlabelled core sample before it looks at the next one.
    Clusters are therefore numbered by their lowest core sample, and a border sample within reach of several
    clusters belongs to the lowest numbered one: neither needs the scan itself.

    Args:
        count: number of samples N.
        edge_blocks: gives the pairs within epsilon in blocks, each pair once and no sample with itself;
            called a second time if they are more than the budget.
        min_samples: neighbours that make a core sample, itself included.
        edge_budget: pairs to hold at once, 16 bytes each; None for 256 a sample, at least 4 million.

    Returns:
        [N] int64, -1 for outliers. Memory: O(N min_samples) and the budget, however dense the graph.
    """
    budget = max(_MIN_EDGE_BUDGET, _EDGES_PER_SAMPLE * count) if edge_budget is None else edge_budget
    degree = np.ones(count, dtype=np.int64)
    held: list[EdgeBlock] = []
    num_edges = 0
    for first, second in edge_blocks():
        np.add.at(degree, first, 1)
        np.add.at(degree, second, 1)
        num_edges += len(first)
        if num_edges <= budget:
            held.append((first, second))
        else:
            held.clear()
    blocks = edge_blocks() if num_edges > budget else held
    is_core = degree >= min_samples
    component, border_edges = _join_core_samples(count, blocks, is_core, budget)
    return _number_clusters(component, is_core, border_edges)


def _join_core_samples(
    count: int, blocks: Iterable[EdgeBlock], is_core: np.ndarray, budget: int
) -> tuple[np.ndarray, EdgeBlock]:
    """Return the component [N] of each sample over core pairs, and the (border, core) pairs.

    A sample that is not core has fewer than min_samples neighbours, so that all those pairs can be held.
    """
    component = np.arange(count, dtype=np.int64)
    border: list[np.ndarray] = [np.empty(0, dtype=np.int64)]
    core: list[np.ndarray] = [np.empty(0, dtype=np.int64)]
    for first, second in _in_batches(blocks, budget):
        both = is_core[first] & is_core[second]
        component = _merge(component, first[both], second[both])
        for outer, inner in ((first, second), (second, first)):
            reached = ~is_core[outer] & is_core[inner]
            border.append(outer[reached])
            core.append(inner[reached])
    return component, (np.concatenate(border), np.concatenate(core))


def _in_batches(blocks: Iterable[EdgeBlock], budget: int) -> Iterator[EdgeBlock]:
    """Yield the pairs of many small blocks in a few large ones of about `budget` pairs."""
    held: list[EdgeBlock] = []
    size = 0
    for block in blocks:
        held.append(block)
        size += len(block[0])
        if size >= budget:
            yield _concatenate(held)
            held, size = [], 0
    if held:
        yield _concatenate(held)


def _concatenate(blocks: list[EdgeBlock]) -> EdgeBlock:
    """Return one block of all pairs."""
    return np.concatenate([block[0] for block in blocks]), np.concatenate([block[1] for block in blocks])


def _merge(component: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return components [N] with those of each pair joined."""
    size = len(component)
    ends = (component[first], component[second])
    graph = coo_array((np.ones(len(first)), ends), shape=(size, size))
    return connected_components(graph, directed=False)[1][component].astype(np.int64)


def _number_clusters(component: np.ndarray, is_core: np.ndarray, border_edges: EdgeBlock) -> np.ndarray:
    """Return labels [N] from the components of core samples and the (border, core) pairs."""
    labels = np.full(len(component), OUTLIER, dtype=np.int64)
    core_samples = np.flatnonzero(is_core)
    if not len(core_samples):
        return labels
    _, lowest, inverse = np.unique(component[core_samples], return_index=True, return_inverse=True)
    rank = np.empty(len(lowest), dtype=np.int64)
    rank[np.argsort(lowest)] = np.arange(len(lowest))
    labels[core_samples] = rank[inverse.reshape(-1)]
    border, core = border_edges
    nearest = np.full(len(component), len(lowest), dtype=np.int64)
    np.minimum.at(nearest, border, labels[core])
    reached = nearest < len(lowest)
    labels[reached] = nearest[reached]
    return labels
