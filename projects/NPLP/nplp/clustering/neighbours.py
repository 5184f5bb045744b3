"""The k nearest neighbours of every sample, ties by index.

Shapes: N samples, k neighbours.
"""

from __future__ import annotations

import numpy as np
import torch

from nplp.clustering.euclidean import EuclideanDistances

__all__ = ["nearest_neighbours"]

_BLOCK_VALUES = 1 << 21


def nearest_neighbours(distances: EuclideanDistances, k: int) -> np.ndarray:
    """Return the k nearest samples of each sample, itself among them, nearest first.

    Order is by the float64 distance of the features and, at equal distance, by index: a sample with exact
    duplicates of lower index is not the first of its own list, and may be missing from it.

    Args:
        distances: among N samples.
        k: at least 1; no more than N are returned.

    Returns:
        [N, min(k, N)] int64. Memory: blocks of some 64 MB besides the result.
    """
    count = len(distances)
    k = min(k, count)
    result = np.empty((count, k), dtype=np.int64)
    step = max(1, _BLOCK_VALUES // count)
    for start in range(0, count, step):
        stop = min(start + step, count)
        squared = distances.squared_tile((start, stop, 0, count))
        reach = torch.topk(squared, k, dim=1, largest=False).values[:, -1:] + 2 * distances.margin
        row, neighbour = (squared <= reach).nonzero(as_tuple=True)
        rows, neighbours = row.cpu().numpy(), neighbour.cpu().numpy()
        exact = distances.exact(rows + start, neighbours)
        order = np.lexsort((neighbours, exact, rows))
        first_of_row = np.searchsorted(rows, np.arange(stop - start))
        result[start:stop] = neighbours[order][first_of_row[:, None] + np.arange(k)]
    return result
