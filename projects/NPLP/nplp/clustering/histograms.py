"""How distances are spread among pairs of the same and of different people and cameras.

Shapes: N samples, G groups of pairs, B bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nplp.clustering.camera_reciprocal import camera_reciprocal_encoding
from nplp.clustering.jaccard import jaccard_distances
from nplp.clustering.reciprocal import reciprocal_encoding, relative_encoding
from nplp.clustering.settings import CAMERA_JACCARD, RELATIVE_JACCARD
from nplp.clustering.sweep import FeatureRows, scaled_by_camera

__all__ = ["DistanceHistogram", "distance_histogram"]

_BLOCK = 512
_MOST_SAMPLES = 4000
"""Euclidean distances are counted among so many samples at most: 8 million pairs show the same shape."""


@dataclass(frozen=True)
class DistanceHistogram:
    """Counts of pairs by distance.

    Attributes:
        edges: [B + 1] float64, limits of the bins.
        counts: [2, 2, B] int64, by whether the identity is the same (0 no, 1 yes) and the camera is (0 no,
            1 yes). Where identities are unknown all pairs are in the first row.
        beyond: [2, 2] int64, pairs at the greatest distance there is (a Jaccard distance of 1).
    """

    edges: np.ndarray
    counts: np.ndarray
    beyond: np.ndarray


def distance_histogram(
    features: np.ndarray,
    camera_ids: np.ndarray,
    identities: np.ndarray | None,
    *,
    distance: str = "jaccard",
    k1: int = 20,
    k2: int = 6,
    k1_intra: int = 5,
    k1_inter: int = 20,
    k2_intra: int = 2,
    k2_inter: int = 4,
    camera_centering: bool = False,
    camera_scaling: bool = False,
    bins: int = 50,
) -> DistanceHistogram:
    """Count pairs by distance, identity and camera.

    Args:
        features: [N, D] float32, as given to `estimate_pseudo_labels`.
        camera_ids: [N] int64.
        identities: [N] int64, or None where unknown.
        distance: one of those of `estimate_pseudo_labels`; "euclidean" among 4,000 samples at most,
            spread evenly.
        k1: neighbours of the Jaccard distance.
        k2: neighbours of its query expansion.
        k1_intra: neighbours of the camera-aware Jaccard distance in the own camera.
        k1_inter: the same in the other cameras.
        k2_intra: images of the own camera in its query expansion.
        k2_inter: the same of the other cameras.
        camera_centering: subtract each camera's mean feature first.
        camera_scaling: then scale by the camera's deviations and normalise, as `scaled_by_camera` does.
        bins: B.

    Memory: that of the clustering; never N x N.
    """
    people = np.zeros(len(features), dtype=np.int64) if identities is None else identities
    known = identities is not None
    if camera_scaling and camera_centering:
        features, camera_centering = scaled_by_camera(np.ascontiguousarray(features), camera_ids), False
    if distance == "euclidean":
        chosen = np.unique(np.linspace(0, len(features) - 1, _MOST_SAMPLES).astype(np.int64))
        features, camera_ids, people = features[chosen], camera_ids[chosen], people[chosen]
    features = np.ascontiguousarray(features, dtype=np.float32)
    count = _Counter(people, camera_ids, known, bins)
    if distance != "euclidean":
        rows = FeatureRows.prepared(features, camera_ids, camera_centering, scaling=False)
        if distance == CAMERA_JACCARD:
            encoded = camera_reciprocal_encoding(rows, camera_ids, k1_intra, k1_inter, k2_intra, k2_inter)
        elif distance == RELATIVE_JACCARD:
            encoded = relative_encoding(rows, k1, k2)[0]
        else:
            encoded = reciprocal_encoding(rows, k1, k2)
        count.limit = 1.0
        jaccard_distances(encoded).visit_pairs(count)
        return count.result(all_pairs=True)
    if camera_centering:
        for camera in np.unique(camera_ids):
            features[camera_ids == camera] -= features[camera_ids == camera].mean(axis=0)
    count.limit = 2 * float(np.linalg.norm(features, axis=1).max(initial=0)) or 1.0
    squares = (features**2).sum(axis=1)
    for start in range(0, len(features), _BLOCK):
        block = features[start : start + _BLOCK]
        squared = (
            squares[start : start + _BLOCK, None] + squares[None, start:] - 2 * block @ features[start:].T
        )
        first, second = np.nonzero(np.triu(np.ones(squared.shape, dtype=bool), k=1))
        count(first + start, second + start, np.sqrt(np.maximum(squared[first, second], 0)))
    return count.result(all_pairs=False)


class _Counter:
    """Takes pairs block by block and counts them."""

    def __init__(self, people: np.ndarray, cameras: np.ndarray, known: bool, bins: int) -> None:
        self.limit = 1.0
        self._people, self._cameras, self._known = people, cameras, known
        self._counts = np.zeros((2, 2, bins), dtype=np.int64)

    def __call__(self, first: np.ndarray, second: np.ndarray, distance: np.ndarray) -> None:
        """Count pairs [P]."""
        bins = self._counts.shape[2]
        same = (self._people[first] == self._people[second]) & self._known
        group = 2 * same + (self._cameras[first] == self._cameras[second])
        cell = np.minimum((distance / self.limit * bins).astype(np.int64), bins - 1)
        self._counts += np.bincount(group * bins + cell, minlength=4 * bins).reshape(2, 2, bins)

    def result(self, all_pairs: bool) -> DistanceHistogram:
        """Return the counts; with `all_pairs`, those that were never given are beyond the last bin."""
        edges = np.linspace(0, self.limit, self._counts.shape[2] + 1)
        beyond = np.zeros((2, 2), dtype=np.int64)
        if all_pairs:
            total = _pairs_by_group(self._people, self._cameras, self._known)
            beyond = total - self._counts.sum(axis=2)
        return DistanceHistogram(edges, self._counts, beyond)


def _pairs_by_group(people: np.ndarray, cameras: np.ndarray, known: bool) -> np.ndarray:
    """Return [2, 2] the number of pairs by same identity and same camera."""

    def pairs(*keys: np.ndarray) -> int:
        sizes = np.unique(np.stack(keys), axis=1, return_counts=True)[1]
        return int((sizes * (sizes - 1) // 2).sum())

    every = len(people) * (len(people) - 1) // 2
    same_camera = pairs(cameras)
    if not known:
        return np.array([[every - same_camera, same_camera], [0, 0]])
    same_person, both = pairs(people), pairs(people, cameras)
    return np.array(
        [[every - same_person - same_camera + both, same_camera - both], [same_person - both, both]]
    )
