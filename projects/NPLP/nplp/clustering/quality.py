"""How good pseudo-labels are, where identities are known.

Shapes: N samples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from nplp.clustering.inputs import as_integer_ids
from nplp.clustering.results import OUTLIER, LabelQuality

__all__ = ["label_quality"]

IntegerIds = torch.Tensor | np.ndarray | Sequence[int]


def label_quality(
    labels: IntegerIds, identities: IntegerIds, camera_ids: IntegerIds | None = None
) -> LabelQuality:
    """Compare pseudo-labels with identities.

    Outliers are in no pair of a cluster: pairwise measures, NMI and ARI all see each of them as a cluster of
    its own. NMI flatters labels with many outliers for that reason; read it beside precision and recall. The
    mixed noise and the largest cluster's share are over clustered samples only. A ratio of nothing (no pair
    in any cluster, no identity with two images, no cluster) is 0. NMI and ARI have scikit-learn's values.

    Args:
        labels: [N] integers, -1 for outliers.
        identities: [N] integers, each value an identity.
        camera_ids: [N] integers, or None to leave out the recall across cameras.

    Raises:
        ValueError: if an argument is not integers of one length, or a label is below -1.
    """
    count = len(labels)
    labels = as_integer_ids("labels", labels, count)
    identities = as_integer_ids("identities", identities, count)
    if count and labels.min() < OUTLIER:
        raise ValueError(f"labels must be -1 (outlier) or more, got {labels.min()}")
    clustered = labels != OUTLIER
    sizes = _group_sizes(labels[clustered])
    people = _group_sizes(identities)
    joint = _group_sizes(labels[clustered], identities[clustered])
    hits, in_cluster, of_identity = _pairs(joint), _pairs(sizes), _pairs(people)
    alone = np.ones(count - int(clustered.sum()), dtype=np.int64)
    precision, recall = _ratio(hits, in_cluster), _ratio(hits, of_identity)
    across = None
    if camera_ids is not None:
        across = _cross_camera_recall(labels, identities, as_integer_ids("camera_ids", camera_ids, count))
    return LabelQuality(
        precision=precision,
        recall=recall,
        f1=_ratio(2 * hits, in_cluster + of_identity),
        cross_camera_recall=across,
        nmi=_mutual_information(np.append(joint, alone), np.append(sizes, alone), people),
        ari=_adjusted_rand_index(hits, in_cluster, of_identity, count),
        mixed_noise=_mixed_noise(labels[clustered], identities[clustered]),
        fragmented_noise=_ratio(of_identity - hits, of_identity),
        clusters=len(sizes),
        outliers=len(alone),
        largest_cluster_share=_ratio(int(sizes.max(initial=0)), count - len(alone)),
    )


def _group_sizes(*columns: np.ndarray) -> np.ndarray:
    """Return how many samples share each combination of values of the columns [N]."""
    return np.unique(np.stack(columns), axis=1, return_counts=True)[1].astype(np.int64)


def _pairs(sizes: np.ndarray) -> int:
    """Return the number of pairs within groups of these sizes."""
    return int((sizes * (sizes - 1) // 2).sum())


def _ratio(part: int, whole: int) -> float:
    """Return part / whole, 0 where there is nothing to be a part of."""
    return part / whole if whole else 0.0


def _entropy(sizes: np.ndarray) -> float:
    """Return the entropy in nats of a partition into groups of these sizes."""
    share = sizes / sizes.sum()
    return float(-(share * np.log(share)).sum())


def _mutual_information(joint: np.ndarray, sizes: np.ndarray, people: np.ndarray) -> float:
    """Return the mutual information of two partitions over the mean of their entropies.

    Args:
        joint: sizes of the groups that samples of both partitions share.
        sizes: group sizes of the one.
        people: group sizes of the other.
    """
    if len(sizes) == len(people) <= 1:
        return 1.0
    first, second = _entropy(sizes), _entropy(people)
    mutual = first + second - _entropy(joint)
    return min(max(2 * mutual / (first + second), 0.0), 1.0)


def _adjusted_rand_index(hits: int, in_cluster: int, of_identity: int, count: int) -> float:
    """Return (hits - expected) / (mean - expected) for the pairs of `count` samples (Hubert and Arabie)."""
    if hits == in_cluster == of_identity:
        return 1.0
    expected = in_cluster * of_identity / (count * (count - 1) // 2)
    return (hits - expected) / ((in_cluster + of_identity) / 2 - expected)


def _cross_camera_recall(labels: np.ndarray, identities: np.ndarray, camera_ids: np.ndarray) -> float:
    """Return the share of the pairs of one identity and different cameras that are within a cluster."""
    inside = labels != OUTLIER
    found = _pairs(_group_sizes(labels[inside], identities[inside]))
    found -= _pairs(_group_sizes(labels[inside], identities[inside], camera_ids[inside]))
    whole = _pairs(_group_sizes(identities)) - _pairs(_group_sizes(identities, camera_ids))
    return _ratio(found, whole)


def _mixed_noise(labels: np.ndarray, identities: np.ndarray) -> float:
    """Return the share of clustered samples [M] that are not of their cluster's most frequent identity."""
    if not len(labels):
        return 0.0
    cells, sizes = np.unique(np.stack([labels, identities]), axis=1, return_counts=True)
    starts = np.unique(cells[0], return_index=True)[1]
    return _ratio(int(len(labels) - np.maximum.reduceat(sizes, starts).sum()), len(labels))
