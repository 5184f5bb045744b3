"""The first estimate of the number of people, and of alpha."""

import numpy as np
import pytest

from nplp.clustering import estimate_pseudo_labels, label_quality
from nplp.clustering.people import Trial, _search, alpha_of, estimate_people


def people(count, images=12, cameras=3, noise=0.45, seed=0):
    """Return features, identities and cameras of people who are told apart but for some of their images."""
    rng = np.random.default_rng(seed)
    who = np.arange(count * images) % count
    where = np.arange(count * images) // count % cameras
    features = rng.normal(size=(count, 24))[who] + noise * rng.normal(size=(len(who), 24))
    features += rng.normal(size=(cameras, 24))[where]
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32), who, where


@pytest.mark.parametrize("count", [8, 30, 70])
def test_the_estimate_is_near_the_number_of_people(count):
    features, who, where = people(count)
    estimate = estimate_people(features, where)
    assert 0.8 * count <= estimate.people <= 1.4 * count
    labels = estimate_pseudo_labels(
        features, where, alpha=estimate.alpha, camera_centering=True, correct=False
    ).labels
    assert labels.max() + 1 == estimate.people
    assert label_quality(labels, who, where).f1 > 0.7


def test_each_trial_is_the_startup_stage_with_its_alpha():
    features, _, where = people(12)
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
    features, _, where = people(6)
    assert estimate_people(features[:2], where[:2]).people == 1
    assert estimate_people(features, np.zeros(len(features), int)).people >= 1
    assert not recwarn.list
    with pytest.raises(ValueError, match="min_samples must be an integer of at least 1"):
        estimate_people(features, where, min_samples=0)
    with pytest.raises(ValueError, match="camera_ids must be of shape"):
        estimate_people(features, where[:3])


@pytest.mark.parametrize("people", [0, -3, float("nan")])
def test_alpha_needs_people(people):
    assert alpha_of(751) == pytest.approx(0.0012, abs=2e-6)
    with pytest.raises(ValueError, match="people must be at least 1"):
        alpha_of(people)
