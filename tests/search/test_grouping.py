"""Groups of images, and what becomes of odd ones."""

import numpy as np
import pytest
import torch

from nplp.clustering import estimate_pseudo_labels, label_quality
from nplp.errors import UserError
from nplp.search import group
from nplp.search.grouping import camera_numbers


def people(count=12, images=12, noise=0.3, seed=0):
    """Return features, identities and names of cameras; a camera shifts its features."""
    rng = np.random.default_rng(seed)
    who, where = np.arange(count * images) % count, np.arange(count * images) // count % 3
    features = rng.normal(size=(count, 32))[who] + noise * rng.normal(size=(len(who), 32))
    features += 2 * rng.normal(size=(3, 32))[where]
    return features.astype(np.float32), who, [f"camera {number}" for number in where]


@pytest.mark.parametrize("given", [None, 12])
def test_people_are_told_apart(given):
    features, who, cameras = people()
    labels = group(features, cameras, people=given)
    quality = label_quality(labels, who, camera_numbers(cameras))
    assert 11 <= quality.clusters <= 12
    assert quality.precision == 1
    assert quality.recall > 0.6


def test_people_of_far_more_images_than_usual_are_groups_of_their_own():
    features, who, cameras = people(count=8, images=75, noise=1.2)
    quality = label_quality(group(features, cameras), who, camera_numbers(cameras))
    assert quality.f1 > 0.84
    by_usual = estimate_pseudo_labels(
        torch.nn.functional.normalize(torch.from_numpy(features)), camera_numbers(cameras), alpha=None,
        camera_centering=True, correct=False,
    )  # fmt: skip
    assert label_quality(by_usual.labels, who, None).f1 < 0.78


def test_groups_are_numbered_by_their_first_images():
    features, _, cameras = people()
    labels = group(features, cameras)
    first = [int(np.flatnonzero(labels == number)[0]) for number in range(labels.max() + 1)]
    assert first == sorted(first)


def test_lengths_of_features_do_not_matter():
    features, _, cameras = people()
    scales = np.random.default_rng(1).uniform(0.1, 50, (len(features), 1)).astype(np.float32)
    assert np.array_equal(group(features, cameras), group(features * scales, cameras))


def test_without_cameras_and_with_one(recwarn):
    rng = np.random.default_rng(0)
    who = np.arange(120) % 10
    features = rng.normal(size=(10, 32))[who] + 0.1 * rng.normal(size=(120, 32))
    labels = group(features)
    assert label_quality(labels, who, None).f1 > 0.95
    assert np.array_equal(group(features, ["one"] * 120), labels)
    assert not recwarn.list


def test_odd_numbers_of_images():
    assert group(np.empty((0, 4))).tolist() == []
    assert group(np.ones((1, 4))).tolist() == [-1]
    assert group(np.ones((1, 4)), min_samples=1).tolist() == [0]
    assert len(group(np.random.default_rng(0).normal(size=(3, 4)), ["a", "b", None])) == 3
    assert group(np.ones((8, 4)), ["a", "b"] * 4).tolist() == [0] * 8


def test_unknown_cameras_are_one_more_camera():
    assert camera_numbers(None) is None
    assert camera_numbers(["b", None, "a", "", None]).tolist() == [3, 0, 2, 1, 0]


def test_mistakes_are_one_line():
    features = np.ones((8, 4))
    for options, said in (
        ({"people": 0}, "people must be at least 1, got 0"),
        ({"min_samples": 0}, "min_samples must be at least 1, got 0"),
        ({"cameras": ["a"]}, "8 features need as many cameras, got 1"),
    ):
        with pytest.raises(UserError, match=said):
            group(features, **options)
    with pytest.raises(UserError, match="no numbers in row 2"):
        group(np.where(np.arange(8)[:, None] == 2, np.nan, features))
