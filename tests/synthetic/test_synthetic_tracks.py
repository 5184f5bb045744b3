"""Tracks and times of a domain's images."""

from collections import defaultdict
from itertools import pairwise

import pytest

from nplp_synthetic import DomainSpec, track_images

SPEC = DomainSpec(train_identities=20, test_identities=6, images_per_identity=40, cameras=3, junk=0)


def by_track(images):
    tracks = defaultdict(list)
    for image in images:
        tracks[image.record.camera, image.track].append(image)
    return tracks


def people_of(track):
    return {image.record.identity for image in track}


@pytest.mark.parametrize("length", [1, 4, 8])
def test_a_track_is_a_run_of_one_visit(length):
    images = track_images(SPEC, length)
    assert len(images) == SPEC.identities * SPEC.images_per_identity
    tracks = by_track(images)
    assert max(map(len, tracks.values())) == length
    for track in tracks.values():
        assert len({(image.record.identity, image.record.sequence) for image in track}) == 1
        frames = [image.record.frame for image in track]
        for one, other in pairwise(track):
            seconds = (other.record.frame - one.record.frame) / 25
            assert other.time - one.time == pytest.approx(seconds, abs=0.011)
        assert frames == sorted(frames)


def test_people_overlap_in_a_camera_and_nobody_overlaps_themselves():
    spans = [
        (camera, people_of(track), min(i.time for i in track), max(i.time for i in track))
        for (camera, _), track in by_track(track_images(SPEC, 4)).items()
    ]
    overlaps = 0
    for number, (camera, who, first, last) in enumerate(spans):
        for other_camera, other, begin, end in spans[:number]:
            if camera == other_camera and first < end and begin < last:
                assert who != other
                overlaps += 1
    # Three people at a time in a camera.
    assert len(spans) < overlaps < 5 * len(spans)


def test_numbers_of_a_camera_follow_the_clock_and_a_seed_decides():
    images = track_images(SPEC, 4)
    begins = defaultdict(list)
    for (camera, _), track in sorted(by_track(images).items()):
        begins[camera].append(min(image.time for image in track))
    assert all(times == sorted(times) for times in begins.values())
    assert images == track_images(SPEC, 4)


def test_a_share_of_the_tracks_holds_two_people_of_one_set():
    right, wrong = by_track(track_images(SPEC, 4)), by_track(track_images(SPEC, 4, 0.1))
    assert len(wrong) == len(right)
    mixed = [track for track in wrong.values() if len(people_of(track)) > 1]
    assert len(mixed) == 2 * round(0.1 * len(right) / 2)
    assert all(len({image.record.split == "train" for image in track}) == 1 for track in mixed)
    assert sum(map(len, wrong.values())) == sum(map(len, right.values()))


@pytest.mark.parametrize(("length", "wrong", "message"), [(0, 0, "at least 1, got 0"), (4, 1.5, "got 1.5")])
def test_what_makes_no_sense_is_refused(length, wrong, message):
    with pytest.raises(ValueError, match=message):
        track_images(SPEC, length, wrong)
