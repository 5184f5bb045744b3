"""How far two clusterings of the same samples agree, without identities. Shapes: N samples."""

from __future__ import annotations

import numpy as np

from nplp.clustering.quality import label_quality
from nplp.clustering.singles import outliers_as_clusters

__all__ = ["label_agreement"]


def label_agreement(labels: np.ndarray, before: np.ndarray) -> float:
    """Return the adjusted Rand index of two clusterings: 1 for the same, about 0 for unrelated ones.

    Numbers of clusters do not matter. In both clusterings each outlier is a cluster of its own, so that
    images which join or leave clusters count as a change. Memory: some arrays of N.

    Args:
        labels: [N] integers, -1 for outliers.
        before: [N] integers, -1 for outliers.

    Raises:
        ValueError: if the arguments are not integers of one length, or a label is below -1.
    """
    return label_quality(labels, outliers_as_clusters(before)).ari
