"""Counts of a data set: by split, camera and identity, of tracks and of sizes.

Shapes: N images.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from nplp.data.doctor.findings import CameraCount, IdentityCounts, Sizes, SplitCount, TrackCounts
from nplp.data.doctor.labels import SPLITS, Labels
from nplp.data.doctor.look import Looks
from nplp.data.image_table import ImageTable

__all__ = [
    "cameras_by_identity",
    "count_cameras",
    "count_identities",
    "count_splits",
    "count_tracks",
    "measure",
]

QUARTILES = (0, 25, 50, 75, 100)
SPREAD = (0, 5, 50, 95, 100)


def count_splits(labels: Labels) -> tuple[SplitCount, ...]:
    """Return the counts of the splits that have images."""
    counts = []
    for split in SPLITS:
        chosen = labels.chosen(split)
        if chosen.any():
            people, cameras = labels.identities[chosen], labels.cameras[chosen]
            counts.append(
                SplitCount(
                    split,
                    int(chosen.sum()),
                    identities=_distinct(people),
                    unknown=int((people < 0).sum()),
                    cameras=_distinct(cameras),
                )
            )
    return tuple(counts)


def _distinct(numbers: np.ndarray) -> int:
    return len(np.unique(numbers[numbers >= 0]))


def count_cameras(labels: Labels) -> tuple[CameraCount, ...]:
    """Return the counts of each camera, in the order of their names."""
    places = len(labels.camera_names)
    known = labels.cameras >= 0
    by_split = np.zeros((places, len(SPLITS)), np.int64)
    np.add.at(by_split, (labels.cameras[known], labels.splits[known]), 1)
    pairs = cameras_by_identity(labels, known)
    people = np.bincount(pairs[:, 1], minlength=places)
    return tuple(
        CameraCount(name, int(row.sum()), int(count), *map(int, row))
        for name, row, count in zip(labels.camera_names, by_split, people, strict=True)
    )


def cameras_by_identity(labels: Labels, chosen: np.ndarray) -> np.ndarray:
    """Return [K, 2] int64, the distinct pairs of known identity and known camera among chosen images."""
    both = chosen & (labels.identities >= 0) & (labels.cameras >= 0)
    return np.unique(np.column_stack([labels.identities[both], labels.cameras[both]]), axis=0)


def count_identities(labels: Labels) -> IdentityCounts | None:
    """Return the counts of identities; ``None`` where none is known."""
    known = labels.identities >= 0
    if not known.any():
        return None
    images = np.bincount(labels.identities[known])
    cameras = np.bincount(cameras_by_identity(labels, known)[:, 0], minlength=len(images))
    return IdentityCounts(
        identities=len(images),
        images=_quantiles(images, QUARTILES),
        in_one_camera=int((cameras == 1).sum()),
        with_one_image=int((images == 1).sum()),
    )


def count_tracks(table: ImageTable, labels: Labels) -> TrackCounts | None:
    """Return the counts of tracks and times; ``None`` where neither is known."""
    if table.tracks is None and table.times is None:
        return None
    timed = 0 if table.times is None else int(np.isfinite(table.times).sum())
    known = labels.tracks >= 0
    return TrackCounts(_distinct(labels.tracks), int(known.sum()), timed)


def measure(looks: Looks, shown: Sequence[str]) -> Sizes | None:
    """Return sizes and kinds of the images that were decoded; ``None`` where none was.

    Args:
        looks: what was seen of N images.
        shown: [N] what images are called.
    """
    numbers = np.flatnonzero(looks.readable)
    if not len(numbers):
        return None
    width, height = looks.sizes[numbers].T.astype(np.int64)
    smallest = int(np.argmin(width * height))
    modes = Counter(looks.modes[number] for number in numbers.tolist())
    return Sizes(
        width=_quantiles(width, SPREAD),
        height=_quantiles(height, SPREAD),
        aspect=_quantiles(height / width, SPREAD),
        smallest=f"{shown[numbers[smallest]]} ({width[smallest]} x {height[smallest]})",
        modes=dict(sorted(modes.items())),
    )


def _quantiles(values: np.ndarray, percents: Sequence[int]) -> tuple[float, ...]:
    """Return values at percentages of their order, each one that occurs, rounded to two digits."""
    found = np.percentile(values, percents, method="lower")
    return tuple(round(float(value), 2) for value in found)
