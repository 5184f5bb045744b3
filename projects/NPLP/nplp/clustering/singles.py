"""Outliers as clusters of their own. Shapes: N samples."""

from __future__ import annotations

import numpy as np

from nplp.clustering.results import OUTLIER

__all__ = ["outliers_as_clusters"]


def outliers_as_clusters(labels: np.ndarray) -> np.ndarray:
    """Return labels [N] int64 in which each outlier is a cluster of its own, numbered after all others.

    Args:
        labels: [N] integers, 0..c-1, -1 for outliers; they are not changed.
    """
    numbered = np.array(labels, dtype=np.int64)
    alone = numbered == OUTLIER
    numbered[alone] = numbered.max(initial=OUTLIER) + 1 + np.arange(np.count_nonzero(alone))
    return numbered
