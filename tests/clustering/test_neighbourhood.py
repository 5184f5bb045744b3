"""The choice of k1: about the number of a person's images, from features alone."""

import numpy as np
import pytest

from nplp.clustering import choose_neighbours, neighbourhood
from nplp.clustering.neighbourhood import Neighbourhood, NeighbourTrial, local_expansion


def planted(people, images, cameras=3, *, noise=0.9, seed=0):
    """Return features of people whose look differs between cameras, and the cameras."""
    rng = np.random.default_rng(seed)
    who, where = np.arange(people * images) % people, np.arange(people * images) // people % cameras
    looks = rng.normal(size=(people, 1, 32)) + 0.3 * rng.normal(size=(people, cameras, 32))
    features = looks[who, where] + noise * rng.normal(size=(len(who), 32))
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32), where


@pytest.mark.parametrize(("images", "expected"), [(14, 20), (18, 20), (40, 40), (60, 60), (120, 90)])
def test_it_follows_the_number_of_a_persons_images(images, expected):
    found = choose_neighbours(*planted(1000 // images, images))
    assert (found.k1, found.k2) == (expected, local_expansion(expected))
    assert [trial.k1 for trial in found.trials] == [20, 30, 40, 60, 90]


def test_many_images_of_a_person_by_one_camera_are_seen_too():
    assert choose_neighbours(*planted(20, 60, cameras=1)).k1 == 60


def test_it_is_the_largest_value_that_clusters_fill(monkeypatch):
    images = {20: 13.9, 30: 21.0, 40: 20.0, 60: 42.0, 90: 62.9}
    features = np.zeros((1000, 2), dtype=np.float32)

    def estimate(given, cameras, *, k1, **settings):
        assert settings["k2"] == 3 * k1 // 10
        assert settings["alpha"] is None
        assert (settings["min_samples"], settings["camera_centering"]) == (3, False)
        sizes = [round(10 * images[k1])] * 3 + [1]
        return type("Labels", (), {"labels": np.repeat(np.arange(4), sizes)})

    monkeypatch.setattr(neighbourhood, "estimate_pseudo_labels", estimate)
    monkeypatch.setattr(neighbourhood, "FILLED", 7.0)
    found = choose_neighbours(features, None, min_samples=3, camera_centering=False)
    assert found.k1 == 60
    assert [trial.images for trial in found.trials] == [139, 210, 200, 420, 629]
    # Where none is so full, it is the fullest.
    monkeypatch.setattr(neighbourhood, "FILLED", 8.0)
    assert choose_neighbours(features, None, min_samples=3, camera_centering=False).k1 == 30


def test_one_cluster_of_very_many_images_does_not_count(monkeypatch):
    labels = np.repeat(np.arange(31), [400, *[10] * 30])
    monkeypatch.setattr(
        neighbourhood, "estimate_pseudo_labels", lambda *_, **__: type("Labels", (), {"labels": labels})
    )
    assert choose_neighbours(np.zeros((1000, 2), dtype=np.float32), None).k1 == 20


def test_without_clusters_it_is_the_usual_one():
    noise = np.random.default_rng(0).normal(size=(400, 64)).astype(np.float32)
    found = choose_neighbours(noise, np.arange(400) % 2, min_samples=50)
    assert found.k1 == 20
    assert {trial.images for trial in found.trials} == {0.0}


@pytest.mark.parametrize(("count", "tried"), [(299, []), (300, [20, 30]), (599, [20, 30, 40]), (12, [])])
def test_it_is_a_tenth_of_the_images_at_most(count, tried):
    features, cameras = planted(count, 1)
    found = choose_neighbours(features, cameras)
    assert [trial.k1 for trial in found.trials] == tried
    assert found.k1 <= max([20, *tried])


def test_identical_calls_choose_alike_and_the_arguments_stay(recwarn):
    features, _ = planted(20, 30)
    before = features.copy()
    assert choose_neighbours(features, None) == choose_neighbours(features, None)
    np.testing.assert_array_equal(features, before)
    assert not recwarn.list, "that cameras are unknown is said by who makes the labels"


def test_wrong_features_are_named():
    with pytest.raises(ValueError, match="features"):
        choose_neighbours(np.zeros(400), None)


def test_it_is_told_in_a_line():
    trials = (NeighbourTrial(20, 84, 15.0), NeighbourTrial(30, 51, 28.5))
    said = "k1 30 and k2 9 chosen; k1, and the images of a cluster by it: 20: 15, 30: 28.5"
    assert str(Neighbourhood(30, 9, trials)) == said
    assert str(Neighbourhood(20, 6, ())) == "k1 20 and k2 6 chosen; too few images for more"
