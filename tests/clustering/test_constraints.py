"""Constraints from tracks and from people, and labels that keep them."""

import numpy as np
import pytest
import torch
from constraints_oracle import slow_constraints, slow_labels

from nplp.clustering import (
    Constraints,
    average_by_component,
    build_constraints,
    estimate_pseudo_labels,
    label_quality,
)
from nplp.clustering.constrain import constrain_labels
from nplp.clustering.constraints import overlapping
from nplp.clustering.sweep import FeatureRows

CASES = range(400)
NAN = float("nan")


def random_pairs(rng, count, most):
    pairs = rng.integers(0, count, (rng.integers(most + 1), 2))
    return pairs[pairs[:, 0] != pairs[:, 1]]


def case(seed):
    """Return the arguments of `build_constraints`, labels, integer features and min_samples."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 19))
    known = {
        "tracks": rng.integers(-1, rng.integers(1, 8), count),
        "camera_ids": rng.integers(0, 2, count),
        "times": np.where(rng.random(count) < 0.15, NAN, rng.integers(0, 9, count)),
        "must": random_pairs(rng, count, 3),
        "cannot": random_pairs(rng, count, 4),
    }
    for name in ("camera_ids", "times", "must", "cannot"):
        if rng.random() < 0.25:
            known.pop(name)
    if "camera_ids" not in known:
        known.pop("times", None)
    labels = rng.integers(-1, rng.integers(1, 5), count)
    labels[labels >= 0] = np.unique(labels[labels >= 0], return_inverse=True)[1]
    return count, known, labels, rng.integers(0, 4, (count, 2)), int(rng.integers(1, 5))


def slow(count, known):
    names = {"camera_ids": "cameras"}
    return slow_constraints(count, **{names.get(name, name): value for name, value in known.items()})


def rows_of(features):
    return FeatureRows.plain(np.asarray(features, dtype=np.float64))


def constrained(labels, constraints, features=None, min_samples=1):
    labels = np.asarray(labels, dtype=np.int64)
    features = np.arange(len(labels))[:, None] if features is None else features
    found, changes = constrain_labels(labels, constraints, rows_of(features), min_samples)
    return found.tolist(), changes


def test_constraints_are_those_of_the_slow_reading():
    for seed in CASES:
        count, known, *_ = case(seed)
        found = build_constraints(count, **known)
        components, edges, refused, dropped = slow(count, known)
        assert found.components.tolist() == components, seed
        assert found.cannot.tolist() == list(map(list, edges))
        assert (found.refused_tracks, found.dropped_cannots) == (refused, dropped)


def test_the_generated_cases_contradict_themselves_and_split_clusters():
    refused = dropped = split = joined = 0
    for seed in CASES:
        count, known, labels, features, min_samples = case(seed)
        found = build_constraints(count, **known)
        changes = constrain_labels(labels, found, rows_of(features), min_samples)[1]
        refused += found.refused_tracks > 0
        dropped += found.dropped_cannots > 0
        split += changes.split_clusters > 0
        joined += changes.joined_clusters > 0
    assert min(refused, dropped, split, joined) >= 10


def test_labels_are_those_of_the_slow_reading():
    for seed in CASES:
        count, known, labels, features, min_samples = case(seed)
        components, edges, *_ = slow(count, known)
        found, _ = constrained(labels, build_constraints(count, **known), features, min_samples)
        assert found == slow_labels(labels.tolist(), components, edges, features, min_samples), seed


def test_labels_keep_every_constraint_and_have_no_gaps():
    for seed in CASES:
        count, known, labels, features, min_samples = case(seed)
        constraints = build_constraints(count, **known)
        found = np.array(constrained(labels, constraints, features, min_samples)[0])
        for component in range(len(constraints.sizes)):
            assert len(set(found[constraints.components == component])) == 1
        of_component = {component: found[i] for i, component in enumerate(constraints.components)}
        for one, other in constraints.cannot.tolist():
            assert of_component[one] != of_component[other] or of_component[one] == -1
        assert sorted(set(found.tolist()) - {-1}) == list(range(found.max(initial=-1) + 1))


def test_most_of_a_track_takes_the_rest_along():
    tracks = [0] * 8 + [-1] * 4
    labels = [0, 0, 0, 0, 0, 0, 1, -1, 1, 1, 1, 1]
    found, changes = constrained(labels, build_constraints(12, tracks=tracks), min_samples=4)
    assert found == [0] * 8 + [1] * 4
    assert (changes.moved_images, changes.joined_images, changes.joined_clusters) == (1, 1, 0)


def test_a_cluster_that_most_of_its_images_leave_goes_with_them():
    tracks = [0] * 8 + [-1] * 2
    labels = [0] * 5 + [1] * 3 + [1, 1]
    found, changes = constrained(labels, build_constraints(10, tracks=tracks))
    assert found == [0] * 10
    assert (changes.moved_images, changes.joined_clusters) == (5, 1)


def test_tracks_of_outliers_become_clusters_from_min_samples_on():
    constraints = build_constraints(9, tracks=[0, 0, 0, 0, 1, 1, 1, -1, -1])
    found, changes = constrained([-1] * 7 + [0, 0], constraints, min_samples=4)
    assert found == [1, 1, 1, 1, -1, -1, -1, 0, 0]
    assert changes.new_clusters == 1


def test_a_cluster_is_split_by_distance_where_two_tracks_overlap():
    # Two people in two cameras: their tracks overlap in the first camera alone.
    tracks = np.repeat([0, 1, 2, 3], 3)
    cameras = np.repeat([0, 0, 1, 1], 3)
    times = [0, 5, 9, 4, 6, 8, 20, 21, 22, 40, 41, 42]
    features = np.repeat([[0], [10], [9], [1]], 3, axis=0)
    known = build_constraints(12, tracks=tracks, camera_ids=cameras, times=times)
    assert known.cannot.tolist() == [[0, 1]]
    found, changes = constrained([0] * 12, known, features, min_samples=4)
    assert found == [0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0]
    assert changes.split_clusters == 1


def test_what_is_split_off_too_small_is_left_out():
    known = build_constraints(6, cannot=[(0, 5)])
    found, changes = constrained([0] * 6, known, [[0], [0], [0], [0], [0], [9]], min_samples=4)
    assert found == [0] * 5 + [-1]
    assert changes.left_out_images == 1


def test_people_are_believed_rather_than_tracks():
    known = build_constraints(6, tracks=[0, 0, 0, 1, 1, -1], must=[(4, 5)], cannot=[(0, 2), (4, 5)])
    assert known.components.tolist() == [0, 1, 2, 3, 3, 3]
    assert known.cannot.tolist() == [[0, 2]]
    assert (known.refused_tracks, known.dropped_cannots) == (1, 1)
    times = [0, 9, 1, 8]
    same = build_constraints(4, tracks=[0, 0, 1, 1], camera_ids=[0] * 4, times=times, must=[(0, 2)])
    assert len(same.sizes) == 1
    assert (len(same.cannot), same.dropped_cannots) == (0, 1)


def test_tracks_that_share_a_moment_alone_do_not_overlap():
    first, last = np.array([0.0, 5, 3, 5, 9, NAN]), np.array([5.0, 9, 4, 5, 9, NAN])
    found = overlapping(first, last, np.zeros(6, dtype=np.int64))
    assert found.tolist() == [[0, 2]]
    assert not len(overlapping(first, last, np.arange(6)))


def test_the_same_number_in_two_cameras_is_two_tracks():
    assert build_constraints(4, tracks=[7] * 4, camera_ids=[0, 1, 0, 1]).components.tolist() == [0, 1, 0, 1]
    assert build_constraints(4, tracks=[7] * 4).components.tolist() == [0] * 4


def test_nothing_known_changes_nothing():
    for labels in ([], [0, 0, -1, 1], [-1, -1]):
        known = build_constraints(len(labels), tracks=[-1] * len(labels))
        assert constrained(labels, known, np.zeros((len(labels), 1)), 4)[0] == labels


def test_one_track_of_all_is_one_cluster():
    known = build_constraints(6, tracks=[0] * 6)
    assert known.constrained_images == 6
    assert constrained([-1] * 6, known, min_samples=4)[0] == [0] * 6
    assert constrained([0, 0, 1, 1, 2, -1], known, min_samples=4)[0] == [0] * 6


def people(seed=0, people=10, images=16):
    rng = np.random.default_rng(seed)
    identities = np.repeat(np.arange(people), images)
    cameras = np.tile(np.repeat([0, 1], images // 2), people)
    points = rng.normal(size=(people, 32))[identities] + 1.2 * rng.normal(size=(len(identities), 32))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32), identities, cameras


@pytest.mark.parametrize("correct", [False, True])
def test_the_stage_keeps_constraints_and_says_so(correct):
    features, identities, cameras = people()
    tracks = np.arange(len(features)) // 4
    known = build_constraints(len(features), tracks=tracks, camera_ids=cameras)
    options = {"alpha": 0.09, "correct": correct}
    plain = estimate_pseudo_labels(features, cameras, **options)
    found = estimate_pseudo_labels(features, cameras, constraints=known, **options)
    assert plain.changes is None
    assert not len(plain.unconstrained_labels)
    assert found.epsilon_e == plain.epsilon_e
    if not correct:
        assert np.array_equal(found.unconstrained_labels, plain.labels)
    assert found.changes.moved_images + found.changes.joined_images > 0
    for labels in (found.startup_labels, found.labels):
        assert all(len(set(labels[tracks == track])) == 1 for track in range(tracks.max() + 1))
    before, after = (label_quality(one.labels, identities).f1 for one in (plain, found))
    assert after > before


def test_constraints_of_another_number_of_images_are_refused():
    features, _, cameras = people()
    with pytest.raises(ValueError, match="constraints must be of 160 images, got 3"):
        estimate_pseudo_labels(features, cameras, constraints=build_constraints(3))


def test_the_mean_of_a_track_takes_the_place_of_its_features():
    known = Constraints(np.array([0, 1, 0]), np.empty((0, 2), dtype=np.int64))
    features = torch.tensor([[0.0, 2.0], [5.0, 5.0], [2.0, 0.0]])
    expected = torch.tensor([[1.0, 1.0], [5.0, 5.0], [1.0, 1.0]])
    torch.testing.assert_close(average_by_component(features, known), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tracks": [0, 1]}, r"tracks must be of shape \[3\]"),
        ({"tracks": [0, 1, -2]}, r"tracks must be -1 \(no track\) or more, got -2"),
        ({"tracks": [0.5, 1, 1]}, "tracks must be integers"),
        ({"tracks": [0, 0, 1], "camera_ids": [0]}, r"camera_ids must be of shape \[3\]"),
        ({"tracks": [0, 0, 1], "times": [0.0]}, r"times must be of shape \[3\]"),
        ({"tracks": [0, 0, 1], "times": [0, 1, np.inf]}, "times must be finite, or NaN .* got inf"),
        ({"times": [0, 1, 2]}, "times need tracks"),
        ({"must": [(0, 3)]}, "must must hold numbers of images from 0 to 2, got 3"),
        ({"cannot": [(1, 1)]}, "cannot must hold pairs of two images, got image 1 with itself"),
        ({"cannot": [0, 1]}, r"cannot must be pairs of integers of shape \[M, 2\]"),
    ],
)
def test_what_cannot_be_understood_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_constraints(3, **arguments)
