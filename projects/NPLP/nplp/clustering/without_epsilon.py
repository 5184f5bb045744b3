"""Clusters without a radius: HDBSCAN and Infomap on the graph of each sample's nearest, by their libraries.

HDBSCAN: Campello, Moulavi, Sander, "Density-based clustering based on hierarchical density estimates", PAKDD
2013, by `fast_hdbscan`. Infomap: Rosvall, Bergstrom, PNAS 2008, by `infomap`; cluster contrast (arXiv
2103.11568) gained by it over DBSCAN. Its authors cut links beyond a distance of 0.5; here none is cut.

Shapes: N samples.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from nplp.clustering.results import OUTLIER
from nplp.clustering.sweep import SparseDistances, compiled

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["CLUSTERERS", "DBSCAN", "cluster_without_epsilon", "missing_library", "nearest_graph"]

DBSCAN, HDBSCAN, INFOMAP = CLUSTERERS = ("dbscan", "hdbscan", "infomap")
LIBRARIES = {HDBSCAN: "fast_hdbscan", INFOMAP: "infomap"}
NEAREST = {HDBSCAN: 64, INFOMAP: 15}
"""Nearest samples of each that the graph holds; of Infomap as in cluster contrast."""
SEED = 1


def missing_library(clusterer: str) -> str:
    """Return the library that a clusterer needs and that is not installed; empty where nothing is missing."""
    name = LIBRARIES.get(clusterer, "")
    return name if name and find_spec(name) is None else ""


def cluster_without_epsilon(distances: SparseDistances, clusterer: str, min_samples: int) -> np.ndarray:
    """Return labels [N] int64, 0..c-1 by the lowest sample of each cluster, -1 for outliers.

    Args:
        distances: among N samples; those of 1 join nothing.
        clusterer: "hdbscan" or "infomap".
        min_samples: the fewest samples of a cluster; of HDBSCAN also the neighbours, itself included, whose
            distance says how dense it is around a sample.

    Memory: 12 bytes for each of the 64 nearest of a sample (15 with Infomap), and a few times that in the
    library; never N x N.
    """
    graph = nearest_graph(distances, NEAREST[clusterer])
    found = _hdbscan(graph, min_samples) if clusterer == HDBSCAN else _infomap(graph)
    return _numbered(found, min_samples)


def nearest_graph(distances: SparseDistances, count: int) -> csr_matrix:
    """Return the distances [N, N] to the ``count`` nearest of each sample, those below 1 alone.

    Of equally near ones the first are taken, so that the graph does not depend on the order of pairs. A pair
    of distance 0 is stored. A pair may be held by one of its samples only.
    """
    # Not above: it would take a fifth of every start.
    from scipy.sparse import csr_matrix

    size = len(distances)
    nearest = np.full((size, count), np.iinfo(np.int32).max, dtype=np.int32)
    values = np.full((size, count), 1.0)
    distances.visit_pairs(lambda first, second, value: _keep_nearest(first, second, value, nearest, values))
    held = values < 1
    starts = np.concatenate([[0], held.sum(axis=1).cumsum()])
    return csr_matrix((values[held], nearest[held], starts), shape=(size, size))


@compiled()
def _keep_nearest(first, second, distance, nearest, values):  # type: ignore[no-untyped-def]
    """Put each pair into the sorted rows of both its samples, as far as it is among the nearest."""
    last = nearest.shape[1] - 1
    for pair in range(len(first)):
        for end in range(2):
            row, other = (first[pair], second[pair]) if end == 0 else (second[pair], first[pair])
            value, place = distance[pair], last
            if value > values[row, last] or (value == values[row, last] and other > nearest[row, last]):
                continue
            while place > 0 and (
                value < values[row, place - 1]
                or (value == values[row, place - 1] and other < nearest[row, place - 1])
            ):
                values[row, place] = values[row, place - 1]
                nearest[row, place] = nearest[row, place - 1]
                place -= 1
            values[row, place] = value
            nearest[row, place] = other


def _hdbscan(graph: csr_matrix, min_samples: int) -> np.ndarray:
    import fast_hdbscan

    if not graph.nnz:
        return np.full(graph.shape[0], OUTLIER)
    # The library does not count the sample itself.
    options = {"min_samples": max(1, min_samples - 1), "min_cluster_size": max(2, min_samples)}
    return np.asarray(
        fast_hdbscan.HDBSCAN(metric="precomputed", reproducible=True, **options).fit_predict(graph)
    )


def _infomap(graph: csr_matrix) -> np.ndarray:
    from infomap import Infomap

    labels = np.full(graph.shape[0], OUTLIER)
    pairs = graph.tocoo()
    if not pairs.nnz:
        return labels
    network = Infomap(silent=True, two_level=True, seed=SEED)
    # A pair that both hold is two links, of which the weights add up.
    for row, column, distance in zip(
        pairs.row.tolist(), pairs.col.tolist(), pairs.data.tolist(), strict=True
    ):
        network.add_link(row, column, 1 - distance)
    for node, module in dict(network.run().modules()).items():
        labels[node] = module
    return labels


def _numbered(found: np.ndarray, fewest: int) -> np.ndarray:
    """Return labels with clusters numbered by their lowest sample, those of too few samples as outliers."""
    kept, first, back, sizes = np.unique(found, return_index=True, return_inverse=True, return_counts=True)
    stays = (kept >= 0) & (sizes >= fewest)
    numbers = np.full(len(kept), OUTLIER, dtype=np.int64)
    order = np.argsort(np.where(stays, first, len(found)), kind="stable")[: stays.sum()]
    numbers[order] = np.arange(len(order))
    return numbers[back.reshape(-1)]
