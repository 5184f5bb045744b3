"""What is known of images beside their features: which are of one person, and which are of two.

It comes from tracks and from people who answer "same" or "not the same". Shapes: N images, C components, E
pairs of components that must stay apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nplp.clustering.inputs import as_integer_ids
from nplp.clustering.joining import Groups

__all__ = ["NO_TRACK", "Constraints", "average_by_component", "build_constraints"]

NO_TRACK = -1
"""The track of an image that is in none."""

IntegerIds = torch.Tensor | np.ndarray | Sequence[int]
Pairs = np.ndarray | Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Constraints:
    """Components of images that are one person, and pairs of components that are two people.

    Attributes:
        components: [N] int64, 0..C-1, numbered by their lowest image; an image of which nothing is known is a
            component of its own.
        cannot: [E, 2] int64, pairs of components, the lower first, each once and in ascending order.
        refused_tracks: how many tracks were not believed, because their images were said to be two people.
        dropped_cannots: how many pairs of two people were dropped, because they are in one component.
    """

    components: np.ndarray
    cannot: np.ndarray
    refused_tracks: int = 0
    dropped_cannots: int = 0

    def __len__(self) -> int:
        """Return N."""
        return len(self.components)

    @property
    def sizes(self) -> np.ndarray:
        """How many images each component has, [C] int64."""
        return np.bincount(self.components)

    @property
    def constrained_images(self) -> int:
        """How many images are in a component of two or more."""
        sizes = self.sizes
        return int(sizes[sizes > 1].sum())


def build_constraints(
    count: int,
    *,
    tracks: IntegerIds | None = None,
    camera_ids: IntegerIds | None = None,
    times: np.ndarray | Sequence[float] | None = None,
    must: Pairs = (),
    cannot: Pairs = (),
) -> Constraints:
    """Return the constraints that tracks and given pairs of images make.

    The images of a track are one person. Two tracks of one camera that overlap in time are two people: each
    begins before the other ends, so that two that share a moment alone do not overlap, as coarse times make
    one track end and the next begin in the same second. A track lasts from the first to the last known time
    of its images; one without any overlaps nothing.

    What contradicts itself is settled in this order, in which what people said beats tracks:

    1. The images of each pair in ``must`` are joined.
    2. Each pair in ``cannot`` keeps the components of its images apart; where they are one component, the
       pair is dropped.
    3. Track by track in ascending order, the images of a track are joined; a track that would bring together
       what step 2 keeps apart is refused: none of its images are joined by it, and it overlaps nothing.
    4. Each pair of overlapping tracks keeps their components apart; where they are one component, by step 1,
       the pair is dropped.

    Args:
        count: N.
        tracks: [N] integers, -1 for no track; None where no tracks are known.
        camera_ids: [N] integers; the same number in two cameras is two tracks. None where unknown.
        times: [N] seconds from any origin, the same for the images of a camera; NaN where unknown. They
            need tracks and cameras. None: no two tracks are known to overlap.
        must: [M, 2] image numbers: pairs of one person.
        cannot: [M, 2] image numbers: pairs of two people.

    Returns:
        The constraints. Memory: O(N + E), where E counts the overlapping pairs too. Time: the same, but for
        a logarithm.

    Raises:
        ValueError: if an argument is of the wrong shape, type or range; the message names it.
    """
    groups = Groups(count)
    for pair in _as_pairs("must", must, count):
        groups.join(pair)
    apart = [tuple(pair) for pair in np.unique(np.sort(_as_pairs("cannot", cannot, count), axis=1), axis=0)]
    kept = [pair for pair in apart if groups.keep_apart(*pair)]
    dropped, refused = len(apart) - len(kept), 0
    if tracks is not None:
        numbers, cameras = _own_tracks(count, tracks, camera_ids)
        members = _members(numbers)
        believed = np.array([groups.join(images.tolist()) for images in members], dtype=bool)
        refused = int((~believed).sum())
        if times is not None:
            first, last = _intervals(_as_times(times, count), numbers, len(members))
            first[~believed] = np.nan
            images = np.array([images[0] for images in members], dtype=np.int64)
            for one, other in overlapping(first, last, cameras[images]):
                pair = int(images[one]), int(images[other])
                if groups.keep_apart(*pair):
                    kept.append(pair)
                else:
                    dropped += 1
    elif times is not None:
        raise ValueError("times need tracks and camera_ids, got None: give them, or leave times out")
    components = np.unique(groups.roots(), return_inverse=True)[1].reshape(-1).astype(np.int64)
    edges = np.sort(components[np.array(kept, dtype=np.int64).reshape(-1, 2)], axis=1)
    return Constraints(components, np.unique(edges, axis=0), refused, dropped)


def overlapping(first: np.ndarray, last: np.ndarray, camera_ids: np.ndarray) -> np.ndarray:
    """Return the pairs of tracks of one camera that overlap in time, [E, 2] int64.

    Sorted by their beginnings, the tracks that begin during a track are a run behind it.

    Args:
        first: [T] float64, when each track begins; NaN where not known.
        last: [T] float64, when it ends.
        camera_ids: [T] int64.
    """
    found = [np.empty((0, 2), dtype=np.int64)]
    for camera in np.unique(camera_ids):
        tracks = np.flatnonzero((camera_ids == camera) & ~np.isnan(first))
        tracks = tracks[np.argsort(first[tracks], kind="stable")]
        begins, ends = first[tracks], last[tracks]
        here = np.arange(len(tracks))
        lengths = np.maximum(np.searchsorted(begins, ends, side="left") - here - 1, 0)
        one = np.repeat(here, lengths)
        other = np.arange(len(one)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + one + 1
        # A track of one moment, at which the other begins, shares no more than that.
        more = begins[one] < ends[other]
        found.append(np.stack([tracks[one[more]], tracks[other[more]]], axis=1))
    return np.concatenate(found)


def average_by_component(features: torch.Tensor, constraints: Constraints) -> torch.Tensor:
    """Return features [N, D] in which each image has the mean of its component's.

    This is the usual shortcut with tracks, which `NPLP.TRACKS` offers to compare with. Memory: a copy of the
    features, and of the means; they are summed on the CPU, where the order of the sums is always the same.
    """
    values = features.cpu()
    components, sizes = (torch.from_numpy(array) for array in (constraints.components, constraints.sizes))
    sums = values.new_zeros(len(sizes), values.shape[1]).index_add_(0, components, values)
    return (sums / sizes[:, None].to(values.dtype))[components].to(features.device)


def _as_pairs(name: str, pairs: Pairs, count: int) -> np.ndarray:
    """Return pairs of image numbers [M, 2] int64."""
    array = np.asarray(pairs)
    if not array.size:
        return np.empty((0, 2), dtype=np.int64)
    if array.ndim != 2 or array.shape[1] != 2 or array.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be pairs of integers of shape [M, 2], got {array.dtype} {list(array.shape)}"
        )
    outside = array[(array < 0) | (array >= count)]
    if outside.size:
        raise ValueError(f"{name} must hold numbers of images from 0 to {count - 1}, got {outside[0]}")
    alone = array[array[:, 0] == array[:, 1]]
    if len(alone):
        raise ValueError(f"{name} must hold pairs of two images, got image {alone[0, 0]} with itself")
    return array.astype(np.int64)


def _as_times(times: np.ndarray | Sequence[float], count: int) -> np.ndarray:
    array = np.asarray(times, dtype=np.float64)
    if array.shape != (count,):
        raise ValueError(f"times must be of shape [{count}], one for each image, got {list(array.shape)}")
    if np.isinf(array).any():
        raise ValueError(f"times must be finite, or NaN where unknown, got {array[np.isinf(array)][0]}")
    return array


def _own_tracks(
    count: int, tracks: IntegerIds, camera_ids: IntegerIds | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the track of each image [N] int64, 0..T-1, of one camera each, and -1 for none; its camera."""
    given = as_integer_ids("tracks", tracks, count)
    if count and given.min() < NO_TRACK:
        raise ValueError(f"tracks must be -1 (no track) or more, got {given.min()}")
    cameras = np.zeros(count, dtype=np.int64)
    if camera_ids is not None:
        cameras = as_integer_ids("camera_ids", camera_ids, count)
    numbers = np.full(count, NO_TRACK, dtype=np.int64)
    inside = given != NO_TRACK
    keys = np.stack([given[inside], cameras[inside]])
    numbers[inside] = np.unique(keys, axis=1, return_inverse=True)[1].reshape(-1)
    return numbers, cameras


def _members(numbers: np.ndarray) -> list[np.ndarray]:
    """Return the images of each track 0..T-1, ascending."""
    order = np.argsort(numbers, kind="stable")[int((numbers == NO_TRACK).sum()) :]
    return np.split(order, np.cumsum(np.bincount(numbers[order]))[:-1]) if len(order) else []


def _intervals(times: np.ndarray, numbers: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the last known time of each of `count` tracks; NaN for those without any."""
    known = (numbers != NO_TRACK) & ~np.isnan(times)
    first, last = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(first, numbers[known], times[known])
    np.maximum.at(last, numbers[known], times[known])
    first[np.isinf(first)] = np.nan
    return first, last
