"""How clusters relate to cameras: entropy, weights of clusters by it, and pairs across cameras.

Shapes: N samples, c clusters, C cameras.
"""

from __future__ import annotations

import numpy as np

from nplp.clustering.results import OUTLIER

__all__ = ["camera_entropies", "camera_entropy_weights", "cross_camera_share"]


def camera_entropies(labels: np.ndarray, cameras: np.ndarray) -> np.ndarray:
    """Return the entropy of each cluster's camera histogram, in bits.

    H_i = -sum_k p_ik log2 p_ik, p_ik the share of cluster i's images that camera k took: 0 for a cluster of
    one camera, 1 for two cameras with as many images each, log2 C at most. Memory: some arrays of N.

    Args:
        labels: [N] integers, 0..c-1 without gaps, -1 for outliers, which count nowhere.
        cameras: [N] integers.

    Returns:
        [c] float64.
    """
    inside = labels != OUTLIER
    cells, counts = np.unique(np.stack([labels[inside], cameras[inside]]), axis=1, return_counts=True)
    clusters = cells[0].astype(np.int64)
    shares = counts / np.bincount(clusters, weights=counts)[clusters]
    # Adding 0 makes the -0 of a single camera a 0.
    return np.bincount(clusters, weights=-shares * np.log2(shares)) + 0.0


def camera_entropy_weights(labels: np.ndarray, cameras: np.ndarray) -> np.ndarray:
    """Return the weight of each cluster by the entropy of its cameras, on average 1.

    w_i = c exp(H_i) / sum_j exp(H_j), H_i in bits: see :func:`camera_entropies`. A cluster that several
    cameras see tells more of a person and less of a camera's style than one that a single camera sees; the
    latter is weighed down, never left out.

    The weight of 3C (the code of stone5265/3C-reid, which takes the exponential of bits), with one
    difference: there the histogram, and the mean that is 1, are those of the batch; here of the whole
    clustering. A batch holds K images of a cluster, four by default, which tell little of its cameras and
    depend on the sampler, and the number of processes would change the weights. CALR takes log(1 + H), which
    leaves out the clusters of one camera, from its sixth epoch on.

    Args:
        labels: [N] integers, 0..c-1 without gaps, -1 for outliers.
        cameras: [N] integers.

    Returns:
        [c] float64, above 0; empty without a cluster.
    """
    raw = np.exp(camera_entropies(labels, cameras))
    return raw * (len(raw) / raw.sum()) if len(raw) else raw


def cross_camera_share(labels: np.ndarray, cameras: np.ndarray) -> float:
    """Return the share of the pairs within clusters that are of different cameras; 0 without a pair.

    Args:
        labels: [N] integers, 0..c-1 without gaps, -1 for outliers.
        cameras: [N] integers.
    """
    inside = labels != OUTLIER
    cells = np.unique(np.stack([labels[inside], cameras[inside]]), axis=1, return_counts=True)[1]
    pairs, within = (int((sizes * (sizes - 1) // 2).sum()) for sizes in (np.bincount(labels[inside]), cells))
    return 1 - within / pairs if pairs else 0.0
