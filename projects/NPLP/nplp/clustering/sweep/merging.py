"""The nearest neighbours that several workers found among their pairs, made one list.

Shapes: N samples, k neighbours, W workers, M samples of one worker.
"""

from __future__ import annotations

import numpy as np

from nplp.clustering.sweep.compiling import compiled
from nplp.clustering.sweep.shares import Shares

__all__ = ["merged_nearest"]


def merged_nearest(nearest: np.ndarray, squared: np.ndarray, shares: Shares) -> np.ndarray:
    """Return the k nearest of each sample among what all workers found, nearest first and ties by index.

    Each worker's list is the nearest of the pairs that it was given, so that the nearest of all pairs are in
    the lists. Every worker merges the lists of the samples that it owns.

    Args:
        nearest: [N, k] int32, this worker's, -1 at the end for none; a sample is in a list once.
        squared: [N, k] float64, their squared distances, in one unit for all workers.
        shares: this worker.

    Returns:
        [N, k] int32, the same for all workers. Memory: 24 bytes an entry of [N, k], whatever W is.
    """
    found, distances = shares.swapped(nearest), shares.swapped(squared)
    merged = np.full(found.shape[1:], -1, dtype=np.int32)
    _merge(found, distances, merged)
    return shares.gathered(merged)


@compiled()
def _merge(found, distances, merged):  # type: ignore[no-untyped-def]
    """Merge sorted lists [W, M, k] of samples and distances; a sample in several lists counts once."""
    workers, rows, k = found.shape
    heads = np.zeros(workers, dtype=np.int64)
    for row in range(rows):
        heads[:] = 0
        size, last = 0, -1
        while size < k:
            best = -1
            for worker in range(workers):
                place = heads[worker]
                if place == k or found[worker, row, place] < 0:
                    continue
                if best >= 0:
                    value, least = distances[worker, row, place], distances[best, row, heads[best]]
                    if value > least or (
                        value == least and found[worker, row, place] >= found[best, row, heads[best]]
                    ):
                        continue
                best = worker
            if best < 0:
                break
            sample = found[best, row, heads[best]]
            heads[best] += 1
            # Copies of a sample follow each other, as they are at one distance.
            if sample != last:
                merged[row, size] = sample
                size += 1
                last = sample
