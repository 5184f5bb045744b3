"""Camera-aware k-reciprocal encoding on sparse rows.

Chen, Fan, Chen, Zhu, "CA-Jaccard: Camera-aware Jaccard distance for person re-identification", CVPR 2024
(arXiv 2311.10605). Images of one camera look alike whoever they show, and fill the nearest neighbours of an
image. Neighbours are therefore taken from the own camera and from the others separately.

Shapes: N samples, k neighbours.
"""

from __future__ import annotations

import numpy as np

from nplp.clustering.inputs import check_several_cameras
from nplp.clustering.reciprocal import SparseRows, average_over, encode_sets, mutual_neighbours
from nplp.clustering.sweep import FeatureRows, Progress, nearest_by_camera

__all__ = ["camera_reciprocal_encoding"]


def camera_reciprocal_encoding(
    features: FeatureRows,
    camera_ids: np.ndarray | None,
    k1_intra: int = 5,
    k1_inter: int = 20,
    k2_intra: int = 2,
    k2_inter: int = 4,
    progress: Progress | None = None,
) -> SparseRows:
    """Return each sample's weights over its camera-aware k-reciprocal neighbours, averaged over neighbours.

    With d the Euclidean distance, c the camera, A(i) the k1_intra samples nearest to i among the others of
    its camera, with i itself, and B(i) the k1_inter + 1 samples nearest to i in all other cameras:

    1. R(i) = {j in A(i): i in A(j)} + {j in B(i): i in B(j)}. Sets are not expanded.
    2. V(i, j) = exp(-d(i, j)^2) / (sum of exp(-d(i, l)^2) over l in R(i)) for j in R(i), else 0.
    3. Local query expansion: the mean of V over i, the k2_intra - 1 nearest of A(i), and the k2_inter nearest
       of B(i).

    `jaccard_distances` makes distances of the rows. Ties go to the lower index. The number of samples in A(i)
    and B(i), and k2 with i counted, are those of the authors' code. There, the lists of a camera with few
    images go on with images of the other kind; here they end, and the mean is over those that there are.

    Args:
        features: N samples.
        camera_ids: [N] int64, of two cameras or more.
        k1_intra: at least 1.
        k1_inter: at least 1.
        k2_intra: at least 1; more than k1_intra + 1 count as k1_intra + 1.
        k2_inter: at least 0; more than k1_inter + 1 count as k1_inter + 1. With k2_intra 1 and k2_inter 0
            nothing is averaged.
        progress: shows a bar.

    Returns:
        Rows that each sum to 1 and have an entry at least, as a sample is in its own set.

    Raises:
        UserError: if cameras are unknown, or all images are of one camera.

    Memory: that of `reciprocal_encoding`, and as much again for the candidates of the second list.
    """
    check_several_cameras(camera_ids)
    assert camera_ids is not None
    same, other = nearest_by_camera(features, camera_ids, k1_intra + 1, k1_inter + 1, progress)
    same = _with_itself_first(same)
    members, sizes = _joined(mutual_neighbours(same), mutual_neighbours(other))
    nothing = np.empty((len(features), 0), dtype=np.int32), np.zeros(len(features), dtype=np.int64)
    encoded = encode_sets(features, (members, sizes), nothing)
    if k2_intra <= 1 and k2_inter <= 0:
        return encoded
    return average_over(encoded, np.concatenate([same[:, :k2_intra], other[:, :k2_inter]], axis=1))


def _with_itself_first(ranks: np.ndarray) -> np.ndarray:
    """Return neighbours [N, k] that begin with the sample itself, which copies of lower index may precede."""
    own = np.arange(len(ranks), dtype=np.int32)[:, None]
    # Where the sample is missing from its list, the last neighbour makes room for it.
    place = np.where((ranks == own).any(axis=1), (ranks == own).argmax(axis=1), ranks.shape[1] - 1)
    columns = np.arange(ranks.shape[1])
    before = np.concatenate([own, ranks[:, :-1]], axis=1)
    return np.where(columns <= place[:, None], before, ranks)


def _joined(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the unions of disjoint sets, in the form of `mutual_neighbours`."""
    members = np.concatenate([first[0], second[0]], axis=1)
    sizes = first[1] + second[1]
    # The places that count move to the front, in their order.
    counted = np.concatenate(
        [np.arange(part.shape[1]) < size[:, None] for part, size in (first, second)], axis=1
    )
    order = np.argsort(~counted, axis=1, kind="stable")
    return np.take_along_axis(members, order, axis=1), sizes
