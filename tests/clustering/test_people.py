"""Alpha and the number of people from features alone."""

import numpy as np
import pytest

from nplp.clustering import estimate, estimate_pseudo_labels, label_quality
from nplp.clustering.people import Trial, _search, alpha_of, estimate_people


def crowd(people, images, cameras=3, spread=0.25, dim=64, seed=0):
    """Features [people x images, D] around one direction a person, cameras and identities."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(people, dim))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    identities = np.repeat(np.arange(people), images)
    features = centres[identities] + spread * rng.normal(size=(len(identities), dim)) / np.sqrt(dim)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features.astype(np.float32), np.arange(len(identities)) % cameras, identities


@pytest.mark.parametrize(("people", "images"), [(24, 20), (24, 60), (60, 12), (200, 8)])
def test_people_who_can_be_told_apart_are_counted(people, images):
    features, cameras, _ = crowd(people, images)
    assert estimate_people(features, cameras, camera_centering=False).people == people


@pytest.mark.parametrize("spread", [0.25, 0.6, 1.0])
@pytest.mark.parametrize(("people", "images"), [(24, 40), (80, 12), (150, 8)])
def test_the_chosen_alpha_is_about_as_good_as_that_of_the_true_number(people, images, spread):
    features, cameras, identities = crowd(people, images, spread=spread)
    quality = {
        alpha: label_quality(
            estimate_pseudo_labels(features, cameras, alpha=alpha, correct=False).labels, identities, cameras
        ).f1
        for alpha in (None, alpha_of(people))
    }
    assert quality[None] >= quality[alpha_of(people)] - 0.05


def test_the_stage_tells_what_it_chose_and_what_lost():
    features, cameras, _ = crowd(40, 8)
    found = estimate_pseudo_labels(features, cameras, alpha=None, correct=False)
    assert found.alpha in alpha_of(1) / found.alpha_trials[:, 0]
    chosen = found.alpha_trials[np.isclose(alpha_of(1) / found.alpha_trials[:, 0], found.alpha)][0]
    assert chosen[1] == found.epsilon_e
    assert chosen[2] == found.num_clusters
    assert chosen[3] == pytest.approx((found.labels >= 0).mean())
    score = found.alpha_trials[:, 2] * found.alpha_trials[:, 3] ** 2
    assert chosen[2] * chosen[3] ** 2 == score.max()
    again = estimate_pseudo_labels(features, cameras, alpha=found.alpha, correct=False)
    assert np.array_equal(again.labels, found.labels)
    assert again.alpha == found.alpha
    assert not len(again.alpha_trials)


def test_an_epsilon_from_elsewhere_needs_no_alpha():
    features, cameras, _ = crowd(10, 8)
    found = estimate_pseudo_labels(features, cameras, alpha=None, epsilon=0.5, correct=False)
    assert found.alpha == 0
    assert not len(found.alpha_trials)


@pytest.mark.parametrize("cameras", [None, "one"])
def test_cameras_may_be_unknown(cameras):
    features, ids, _ = crowd(30, 10)
    given = None if cameras is None else np.zeros_like(ids)
    assert estimate_people(features, given).people == pytest.approx(30, rel=0.15)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_few_images_are_no_error(count):
    features = np.eye(8, dtype=np.float32)[:count]
    assert estimate_people(features, np.arange(count) % 2).people >= 1


def test_all_images_alike_are_one_person():
    features = np.ones((40, 8), dtype=np.float32)
    assert estimate_people(features, np.arange(40) % 2).people == 1


@pytest.mark.parametrize("people", [0, -3, float("nan")])
def test_alpha_needs_somebody(people):
    with pytest.raises(ValueError, match="people must be at least 1"):
        alpha_of(people)


def test_the_distances_are_made_once(monkeypatch):
    features, cameras, _ = crowd(20, 8)
    made = []
    original = estimate.reciprocal_encoding
    monkeypatch.setattr(estimate, "reciprocal_encoding", lambda *args: made.append(1) or original(*args))
    found = estimate_pseudo_labels(features, cameras, alpha=None, correct=False)
    assert len(made) == 1
    assert len(found.alpha_trials) > 3


def mixed_people(count, images=12, cameras=3, noise=0.45, seed=0):
    """Return features, identities and cameras of people who are told apart but for some of their images."""
    rng = np.random.default_rng(seed)
    who = np.arange(count * images) % count
    where = np.arange(count * images) // count % cameras
    features = rng.normal(size=(count, 24))[who] + noise * rng.normal(size=(len(who), 24))
    features += rng.normal(size=(cameras, 24))[where]
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32), who, where


def test_each_trial_is_the_startup_stage_with_its_alpha():
    features, _, where = mixed_people(12)
    for trial in estimate_people(features, where, camera_centering=False).trials:
        result = estimate_pseudo_labels(features, where, alpha=alpha_of(trial.guess), correct=False)
        assert (trial.clusters, trial.epsilon) == (result.num_clusters, result.epsilon_e)
        assert trial.clustered == pytest.approx(1 - result.num_outliers / len(features))


def test_the_best_trial_is_taken_and_guesses_end_where_images_are_lost():
    def attempt(guess):
        # The best score is at 20; from 45 on it is below half of that.
        return Trial(guess, 0.5, 100, max(0.0, 1 - abs(guess - 20) / 50))

    trials = _search(attempt, 10_000)
    guesses = [trial.guess for trial in trials]
    assert guesses == sorted(guesses)
    assert max(trials, key=lambda trial: trial.score).guess == pytest.approx(16 * 2**0.5)
    assert guesses[-1] == 64


def test_odd_input(recwarn):
    one = np.ones((9, 4), np.float32)
    assert estimate_people(one, None).people == 1
    features, _, where = mixed_people(6)
    assert estimate_people(features[:2], where[:2]).people == 1
    assert estimate_people(features, np.zeros(len(features), int)).people >= 1
    assert not recwarn.list
    with pytest.raises(ValueError, match="min_samples must be an integer of at least 1"):
        estimate_people(features, where, min_samples=0)
    with pytest.raises(ValueError, match="camera_ids must be of shape"):
        estimate_people(features, where[:3])
