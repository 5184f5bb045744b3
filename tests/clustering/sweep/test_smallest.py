"""The mean of the smallest of a stream against a sort, however the bracket is guessed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_workers import by_workers

from nplp.clustering.sweep import current_shares, smallest
from nplp.clustering.sweep.smallest import Bracket, MeanOfSmallest, clipped_mean

PASSES = 3000
LIMIT = 1e6
distances = st.just(0.0) | st.floats(1e-160, LIMIT)
"""The square root of the least square above 0 is 2e-162."""


def a_pass(blocks: Sequence[np.ndarray], count: int, bracket: Bracket, limit: float) -> MeanOfSmallest:
    result = MeanOfSmallest(count, bracket, limit)
    for block in blocks:
        result.add(block)
    return result


def mean_of(
    blocks: Sequence[np.ndarray], count: int, bracket: Bracket, limit: float = LIMIT, passes: int = PASSES
) -> float:
    for _ in range(passes):
        smallest = a_pass(blocks, count, bracket, limit)
        mean = smallest.mean()
        if mean is not None:
            return mean
        bracket = smallest.next_bracket()
    raise AssertionError(f"no end after {passes} passes: {bracket}")


def use_little(patch: pytest.MonkeyPatch, budget: int, bins: int) -> None:
    patch.setattr(smallest, "_MIN_VALUES", budget)
    patch.setattr(smallest, "_BINS", bins)


@st.composite
def streams(draw: st.DrawFn) -> list[float]:
    """Draw values of all sizes, clusters of adjacent floats, or values of which most are tied."""
    kind = draw(st.sampled_from(["any", "adjacent", "tied"]))
    size = st.integers(1, 60)
    if kind == "any":
        return draw(st.lists(distances, min_size=1, max_size=60))
    base = draw(st.sampled_from([1e-150, 0.1, 1.0, 777.7]))
    near = [base]
    for _ in range(5):
        near.append(math.nextafter(near[-1], math.inf))
    choices = near if kind == "adjacent" else [0.1, 0.2, 0.1 + 0.2, 5.0]
    return [draw(st.sampled_from(choices)) for _ in range(draw(size))]


@st.composite
def brackets(draw: st.DrawFn, values: list[float]) -> Bracket:
    """Draw a bracket that may be too low, too high, right, or one value wide."""
    ends = [0.0, LIMIT, *values, math.nextafter(max(values), 0), math.nextafter(min(values), math.inf)]
    low, high = sorted([draw(st.sampled_from(ends)), draw(st.sampled_from(ends))])
    return Bracket(low, high)


@given(st.data(), st.sampled_from([0, 1, 3, 13, 10**6]), st.sampled_from([2, 5, 64]))
@settings(max_examples=400, deadline=None)
def test_mean_is_the_sorted_mean(data: st.DataObject, budget: int, bins: int) -> None:
    values = data.draw(streams())
    count = data.draw(st.integers(1, len(values)))
    bracket = data.draw(brackets(values))
    blocks = np.array_split(np.array(values), data.draw(st.integers(1, 5)))
    with pytest.MonkeyPatch.context() as patch:
        use_little(patch, budget, bins)
        mean = mean_of(blocks, count, bracket)
    chosen = sorted(values)[:count]
    assert mean == pytest.approx(math.fsum(chosen) / count, rel=1e-12, abs=1e-320)


@given(
    st.sampled_from([0.1, 1 / 3, 1e-5, LIMIT]) | distances,
    st.integers(1, 50),
    st.sampled_from([Bracket(0, LIMIT), Bracket(0, 1e-9), Bracket(0.05, 0.4), Bracket(LIMIT, LIMIT)]),
    st.sampled_from([0, 3, 10**6]),
)
@settings(max_examples=200, deadline=None)
def test_mean_of_equal_values_is_that_value(value: float, count: int, bracket: Bracket, budget: int) -> None:
    # One unit in the last place less, and DBSCAN would not link the pairs that were averaged.
    blocks = np.array_split(np.full(50, value), 4)
    with pytest.MonkeyPatch.context() as patch:
        use_little(patch, budget, 5)
        assert mean_of(blocks, count, bracket) == value


@pytest.mark.parametrize(
    "bracket", [Bracket(0, 1), Bracket(0.3, 0.7), Bracket(0.0, 0.1), Bracket(0.9, 1.0), Bracket(0.5, 0.5)]
)
@pytest.mark.parametrize("budget", [10, 10**6])
def test_order_of_adding_changes_no_bit(
    monkeypatch: pytest.MonkeyPatch, bracket: Bracket, budget: int
) -> None:
    use_little(monkeypatch, budget, 5)
    rng = np.random.default_rng(0)
    blocks = [rng.random(size=rng.integers(0, 30)) ** 3 for _ in range(40)]
    count = sum(len(block) for block in blocks) // 2
    means = {mean_of([blocks[i] for i in rng.permutation(40)], count, bracket, 1.0) for _ in range(20)}
    assert len(means) == 1


@pytest.mark.parametrize("budget", [0, 50, 10**6])
def test_threads_may_add_at_the_same_time(monkeypatch: pytest.MonkeyPatch, budget: int) -> None:
    use_little(monkeypatch, budget, 50)
    rng = np.random.default_rng(1)
    blocks = [rng.random(size=7) for _ in range(400)]
    bracket, mean = Bracket(0.2, 0.6), None
    while mean is None:
        shared = MeanOfSmallest(1000, bracket, 1.0)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(shared.add, blocks))
        mean = shared.mean()
        bracket = shared.next_bracket() if mean is None else bracket
    assert mean == mean_of(blocks, 1000, Bracket(0.2, 0.6), 1.0)


def test_bracket_that_holds_the_last_value_needs_one_pass() -> None:
    blocks = [np.array([0.1, 0.9, 0.4]), np.array([0.2, 0.3])]
    for bracket in (Bracket(0, 1), Bracket(0.25, 0.35), Bracket(0.3, 0.3)):
        mean = a_pass(blocks, 3, bracket, 1.0).mean()
        assert mean == pytest.approx(0.2, rel=1e-15)


@pytest.mark.parametrize(
    ("bracket", "following"),
    [
        (Bracket(0.0, 0.15), Bracket(math.nextafter(0.15, 1), 1.0)),
        (Bracket(0.35, 0.5), Bracket(0.0, 0.35)),
    ],
    ids=["too low", "too high"],
)
def test_bracket_that_misses_the_last_value_goes_on_beside_it(bracket: Bracket, following: Bracket) -> None:
    smallest = a_pass([np.array([0.1, 0.9, 0.4, 0.2, 0.3])], 2, bracket, 1.0)
    assert smallest.mean() is None
    assert smallest.next_bracket() == following


def test_bracket_that_holds_too_many_becomes_a_bin(monkeypatch: pytest.MonkeyPatch) -> None:
    use_little(monkeypatch, 2, 4)
    smallest = a_pass([np.array([0.1, 0.9, 0.4, 0.31, 0.3])], 3, Bracket(0.0, 1.0), 1.0)
    assert smallest.mean() is None
    assert smallest.next_bracket() == Bracket(0.25, 0.5)


def test_passes_are_few_although_the_values_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    use_little(monkeypatch, 64, 16)
    values = np.random.default_rng(2).random(size=20_000)
    mean = mean_of([values], 9_000, Bracket(0.0, 1.0), 1.0, passes=4)
    assert mean == pytest.approx(np.sort(values)[:9_000].mean(), rel=1e-12)


def test_what_is_held_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    use_little(monkeypatch, 100, 8)
    shared = MeanOfSmallest(1000, Bracket(0.0, 1.0), 1.0)
    for block in np.random.default_rng(3).random(size=(200, 10)):
        shared.add(block)
        assert sum(len(part) for part in shared._held) <= 110


def test_no_more_is_held_than_twice_what_is_averaged() -> None:
    blocks = np.random.default_rng(4).random(size=(200, 10))
    shared = MeanOfSmallest(30, Bracket(0.0, 1.0), 1.0)
    for block in blocks:
        shared.add(block)
        assert sum(part.nbytes for part in shared._held) <= 2 * 30 * 8
        # A view would keep more than it shows.
        assert all(part.base is None for part in shared._held)
    assert shared.mean() == clipped_mean(np.sort(blocks.ravel())[:30])


@pytest.mark.parametrize("bracket", [Bracket(0.0, 1.0), Bracket(0.03, 0.9), Bracket(0.2, 1.0)])
@pytest.mark.parametrize("budget", [80, 150, 10**6])
@pytest.mark.parametrize("steps", [40, 10**9])
def test_dropping_what_is_not_averaged_changes_no_bit(
    monkeypatch: pytest.MonkeyPatch, bracket: Bracket, budget: int, steps: int
) -> None:
    use_little(monkeypatch, budget, 16)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        values = rng.integers(steps, size=200) / steps
        usual, keeping = (MeanOfSmallest(1 + seed, bracket, 1.0) for _ in range(2))
        keeping._most_held = len(values)
        for block in np.array_split(values, 25):
            usual.add(block)
            keeping.add(block)
        mean = usual.mean()
        assert mean == keeping.mean()
        assert mean is not None or usual.next_bracket() == keeping.next_bracket()


@pytest.mark.parametrize("budget", [300, 10**6])
def test_workers_that_drop_values_find_the_mean_of_one(monkeypatch: pytest.MonkeyPatch, budget: int) -> None:
    use_little(monkeypatch, budget, 64)
    blocks = np.random.default_rng(5).random(size=(90, 7))

    def found() -> tuple[float | None, Bracket | None]:
        shares = current_shares()
        part = a_pass(blocks[shares.number :: shares.count], 20, Bracket(0.0, 1.0), 1.0)
        part.join(shares)
        mean = part.mean()
        return mean, None if mean is not None else part.next_bracket()

    expected = found()
    assert (expected[0] is None) == (budget == 300)
    assert by_workers(3, found) == [expected] * 3


def test_values_known_by_their_sum_count() -> None:
    shared = MeanOfSmallest(5, Bracket(0.5, 1.0), 1.0)
    shared.add_below(3, 0.6)
    shared.add_below(0, 0.0)
    shared.add(np.array([0.7, 0.6, 0.4, 0.9]))
    assert shared.mean() == pytest.approx((0.6 + 0.4 + 0.6) / 5, rel=1e-15)


@given(st.floats(1e-6, 1e6), st.integers(1, 1000))
@settings(max_examples=200, deadline=None)
def test_clipped_mean_of_equal_values_is_that_value(value: float, count: int) -> None:
    assert clipped_mean(np.full(count, value)) == value
