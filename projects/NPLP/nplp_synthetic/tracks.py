"""Tracks and times of a domain's images, as a tracker in each camera would have given them.

The images stay as they are drawn: tracks and times follow from the specification alone.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

from nplp_synthetic.images import Record, identity_records
from nplp_synthetic.spec import DomainSpec, generator

__all__ = ["TrackedImage", "track_images"]

_FRAMES_PER_SECOND = 25
_PEOPLE_AT_ONCE = 3
"""People that a camera sees at a time, on average over a session."""
_PAUSE = 60.0
"""Seconds between the sessions of a camera: everybody's first visits, then everybody's second ones."""


@dataclass(frozen=True)
class TrackedImage:
    """An image of a person with its track.

    Attributes:
        record: the image.
        track: number of the track in its camera, from 0.
        time: in seconds, of a clock that all cameras share.
    """

    record: Record
    track: int
    time: float


def track_images(spec: DomainSpec, length: int, wrong: float = 0.0) -> list[TrackedImage]:
    """Return the images of all people of a domain with tracks and times, in the order of `iter_images`.

    Each visit of a person to a camera is cut into tracks of ``length`` consecutive images; the last one may
    be shorter. The visits of a session begin at random moments, so close that a camera sees three people at
    a time on average; within a visit the frames tell the time.

    A tracker that confuses two people who pass each other is imitated by exchanging the later halves of two
    tracks of one camera and session that begin at about the same time, until the given share of all tracks
    holds two people, as far as there are such pairs. Training and test people are not exchanged.

    Args:
        spec: The domain; its seed decides.
        length: Images of a track at most.
        wrong: Share of the tracks that hold images of two people, in [0, 1].

    Raises:
        ValueError: If ``length`` is below 1 or ``wrong`` outside [0, 1].
    """
    if length < 1:
        raise ValueError(f"track length must be at least 1, got {length}")
    if not 0 <= wrong <= 1:
        raise ValueError(f"wrong tracks must be a share in [0, 1], got {wrong}")
    visits: dict[tuple[int, int], list[list[Record]]] = defaultdict(list)
    for identity in range(1, spec.identities + 1):
        by_visit: dict[tuple[int, int], list[Record]] = defaultdict(list)
        for record in identity_records(spec, identity):
            by_visit[record.camera, record.sequence].append(record)
        for key, records in by_visit.items():
            visits[key].append(records)
    tracks: list[list[TrackedImage]] = []
    for camera in sorted({camera for camera, _ in visits}):
        tracks += _of_camera(spec, camera, visits, length)
    _exchange(spec, tracks, wrong)
    images = [image for number, track in _numbered(tracks) for image in _with_number(track, number)]
    return sorted(images, key=lambda image: (image.record.identity, image.record.camera, image.record.frame))


def _of_camera(
    spec: DomainSpec, camera: int, visits: dict[tuple[int, int], list[list[Record]]], length: int
) -> list[list[TrackedImage]]:
    """Return the tracks of a camera, session after session."""
    rng = generator(spec, "tracks", camera)
    tracks, begin = [], 0.0
    for session in sorted({session for other, session in visits if other == camera}):
        lasting = [_seconds(records[0], records[-1]) for records in visits[camera, session]]
        window = sum(lasting) / _PEOPLE_AT_ONCE
        for records, start in zip(
            visits[camera, session], rng.uniform(0, window, len(lasting)).tolist(), strict=True
        ):
            images = [
                TrackedImage(record, 0, round(begin + start + _seconds(records[0], record), 2))
                for record in records
            ]
            tracks += [images[first : first + length] for first in range(0, len(images), length)]
        begin += window + max(lasting) + _PAUSE
    return tracks


def _seconds(first: Record, last: Record) -> float:
    return (last.frame - first.frame) / _FRAMES_PER_SECOND


def _exchange(spec: DomainSpec, tracks: list[list[TrackedImage]], wrong: float) -> None:
    """Exchange the later halves of pairs of tracks, in place, until a share of them is wrong."""
    rng = generator(spec, "wrong tracks")
    left = {number for number, track in enumerate(tracks) if len(track) > 1}
    pairs = round(wrong * len(tracks) / 2)
    for number in rng.permutation(len(tracks)).tolist():
        if not pairs:
            return
        if number not in left:
            continue
        left.discard(number)
        own = tracks[number]
        others = [other for other in left if _may_meet(spec, own[0].record, tracks[other][0].record)]
        if not others:
            continue
        near = min(others, key=lambda other: (abs(tracks[other][0].time - own[0].time), other))
        left.discard(near)
        ours, theirs = len(own) // 2, len(tracks[near]) // 2
        tracks[number], tracks[near] = (
            own[:ours] + tracks[near][theirs:],
            tracks[near][:theirs] + own[ours:],
        )
        pairs -= 1


def _may_meet(spec: DomainSpec, one: Record, other: Record) -> bool:
    """Tell whether two people are in one camera in one session, and in one set."""
    same_set = (one.identity <= spec.train_identities) == (other.identity <= spec.train_identities)
    same_place = (one.camera, one.sequence) == (other.camera, other.sequence)
    return same_set and same_place and one.identity != other.identity


def _numbered(tracks: list[list[TrackedImage]]) -> list[tuple[int, list[TrackedImage]]]:
    """Return the tracks with their numbers: in each camera in the order of their first moments."""
    order = sorted(tracks, key=lambda track: (track[0].record.camera, min(image.time for image in track)))
    numbers: dict[int, int] = defaultdict(int)
    numbered = []
    for track in order:
        camera = track[0].record.camera
        numbered.append((numbers[camera], track))
        numbers[camera] += 1
    return numbered


def _with_number(track: list[TrackedImage], number: int) -> list[TrackedImage]:
    return [replace(image, track=number) for image in track]
