"""Bootstrap intervals: a naive loop, their coverage of a population, and what cannot be resampled."""

import numpy as np
import pytest

from nplp.evaluation.bootstrap import bootstrap_intervals


def naive(values, identities, resamples, seed, level):
    """Draw people, put their queries together, and take the mean."""
    rng = np.random.default_rng(seed)
    people = sorted(set(identities))
    means = []
    for _ in range(resamples):
        drawn = [people[number] for number in rng.integers(len(people), size=len(people))]
        queries = [query for person in drawn for query in np.flatnonzero(identities == person)]
        means.append(values[queries].mean(axis=0))
    tail = 50 * (1 - level)
    return np.percentile(means, [tail, 100 - tail], axis=0).T


@pytest.mark.parametrize("level", [0.5, 0.95])
@pytest.mark.parametrize("seed", [0, 7])
def test_a_naive_loop_agrees(seed, level):
    rng = np.random.default_rng(3)
    values, identities = rng.random((40, 2)), rng.integers(-5, 4, 40) * 1000
    found = bootstrap_intervals(values, identities, 60, seed, level)
    np.testing.assert_allclose(found, naive(values, identities, 60, seed, level), rtol=1e-12)


def test_the_interval_covers_a_populations_mean_about_as_often_as_it_says():
    """Queries of one person are alike, so that an interval over single queries would be far too narrow."""
    rng = np.random.default_rng(0)
    covered, too_narrow, trials = 0, 0, 300
    for trial in range(trials):
        hard = rng.beta(2, 2, 60)
        values = np.clip(np.repeat(hard, 6) + 0.02 * rng.normal(size=360), 0, 1)[:, None]
        ((low, high),) = bootstrap_intervals(values, np.repeat(np.arange(60), 6), 200, trial)
        covered += low <= 0.5 <= high
        ((low, high),) = bootstrap_intervals(values, np.arange(360), 200, trial)
        too_narrow += not low <= 0.5 <= high
    # 95% but for the percentile interval's bias at 60 people; three standard errors are 4%.
    assert 0.89 <= covered / trials <= 0.99
    assert too_narrow / trials > 0.3


def test_people_with_more_queries_weigh_more():
    # One person of 98 queries and two of one: each resample's mean is a mean of queries, not of people.
    values = np.array([[1.0]] * 98 + [[0.0]] * 2)
    low, high = bootstrap_intervals(values, np.array([0] * 98 + [1, 2]), 2000, level=0.3)[0]
    # In 30% of the resamples the first person is not drawn.
    assert 0.97 < low <= high <= 1


def test_equal_values_give_a_point():
    found = bootstrap_intervals(np.full((6, 1), 0.25), np.array([0, 0, 1, 1, 2, 2]), 50)
    assert found.tolist() == [[0.25, 0.25]]


def test_one_identity_has_no_interval():
    assert bootstrap_intervals(np.array([[0.1], [0.9]]), np.array([4, 4])) is None


def test_a_seed_gives_the_same_again_and_another_does_not():
    values, identities = np.random.default_rng(0).random((30, 1)), np.arange(30) // 3
    first = bootstrap_intervals(values, identities, 100, seed=1)
    assert np.array_equal(first, bootstrap_intervals(values, identities, 100, seed=1))
    assert not np.array_equal(first, bootstrap_intervals(values, identities, 100, seed=2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((0, 1)), np.zeros(0)), r"at least one query, got shapes \(0, 1\) and \(0,\)"),
        ((np.zeros(3), np.zeros(3)), r"values must be \[V, M\]"),
        ((np.zeros((3, 1)), np.zeros(2)), r"got shapes \(3, 1\) and \(2,\)"),
        ((np.zeros((3, 1)), np.zeros(3), 0), "resamples must be at least 1, got 0"),
        ((np.zeros((3, 1)), np.zeros(3), 5, 0, 1.0), r"level must be in \(0, 1\), got 1.0"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_intervals(*arguments)
