"""Which images a domain has: who is seen by which camera, when, and in which set the image falls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nplp_synthetic.spec import DomainSpec, generator

__all__ = ["DISTRACTOR", "JUNK", "Record", "extra_records", "identity_records", "iter_images"]

DISTRACTOR = 0
JUNK = -1

Split = Literal["train", "query", "gallery"]

# A camera's images of one person are split into two visits from this number of images on.
_IMAGES_FOR_TWO_VISITS = 6
# Of the images of a person with few cameras, the share of the second one.
_RARE = 0.2


@dataclass(frozen=True, slots=True)
class Record:
    """One image of a domain, independent of where it is stored.

    Attributes:
        split: The set it belongs to.
        identity: 1, 2, ... for people, 0 for distractors, -1 for junk.
        camera: Camera, from 1.
        frame: Number of the video frame; unique among the images of an identity and camera.
        box: 0 for a box drawn by hand (queries), 1 for a detector's.
        sequence: Visit of the person to the camera, from 1; images of a visit are alike.
    """

    split: Split
    identity: int
    camera: int
    frame: int
    box: int
    sequence: int = 1


def iter_images(spec: DomainSpec) -> Iterator[Record]:
    """Yield every image of a domain, people first, in the order of their identities.

    Training identities are 1..train_identities and test identities follow, so the two are disjoint. A
    test identity has one query image in each camera that saw it; its other images are gallery images.

    Args:
        spec: The domain.

    Yields:
        The records; memory does not grow with the domain.
    """
    for identity in range(1, spec.identities + 1):
        yield from identity_records(spec, identity)
    yield from extra_records(spec, DISTRACTOR, range(spec.distractors))
    yield from extra_records(spec, JUNK, range(spec.junk))


def identity_records(spec: DomainSpec, identity: int) -> list[Record]:
    """Return all images of one person, ordered by camera and frame.

    Args:
        spec: The domain.
        identity: From 1 to ``spec.identities``.

    Returns:
        ``spec.images_per_identity`` records, over two cameras or more with at least two images each.
    """
    rng = generator(spec, "plan", identity)
    training = identity <= spec.train_identities
    seen_by, counts = _cameras(spec, identity, rng)

    records: list[Record] = []
    for camera, count in zip(seen_by.tolist(), counts.tolist(), strict=True):
        # Drawn for training identities too, so that a person's images do not depend on the split.
        query = int(rng.integers(count))
        for index, (sequence, frame) in enumerate(_frames(rng, count)):
            split: Split = "train" if training else "query" if index == query else "gallery"
            records.append(Record(split, identity, camera, frame, int(split != "query"), sequence))
    return records


def _cameras(spec: DomainSpec, identity: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw the cameras that see a person, in order, and how many images each takes."""
    total = spec.images_per_identity
    habits = generator(spec, "habits", identity)
    if habits.random() < spec.difficulty.few_cameras:
        pair = habits.choice(spec.cameras, 2, replace=False) + 1
        rare = max(2, round(total * _RARE))
        order = np.argsort(pair)
        return pair[order], np.array([total - rare, rare])[order]
    most = min(spec.cameras, total // 2)
    seen_by = np.sort(rng.choice(spec.cameras, int(rng.integers(2, most + 1)), replace=False)) + 1
    counts = np.full(len(seen_by), total // len(seen_by))
    counts[rng.permutation(len(seen_by))[: total % len(seen_by)]] += 1
    return seen_by, counts


def extra_records(spec: DomainSpec, identity: int, indices: range) -> list[Record]:
    """Return distractors or junk images, all of them gallery images.

    Args:
        spec: The domain.
        identity: ``DISTRACTOR`` or ``JUNK``.
        indices: Which of them, counted from 0.

    Returns:
        A record for each index; its frame is derived from the index.
    """
    return [Record("gallery", identity, index % spec.cameras + 1, 25 * (index + 1), 1) for index in indices]


def _frames(rng: np.random.Generator, count: int) -> list[tuple[int, int]]:
    """Draw the (sequence, frame) pairs of ``count`` images of a person in one camera, in order."""
    visits = 2 if count >= _IMAGES_FOR_TWO_VISITS else 1
    frames: list[tuple[int, int]] = []
    for visit in range(visits):
        length = (count + visit) // visits
        start = int(rng.integers(1, 30_000)) + 40_000 * visit
        steps = np.cumsum(rng.integers(8, 30, length))
        frames += [(visit + 1, start + int(step)) for step in steps]
    return frames
