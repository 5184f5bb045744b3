"""What the stage keeps of a pass over pairs, and what it passes on."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from nplp.clustering.sweep import pairs
from nplp.clustering.sweep.pairs import HeldPairs, PairsPassedOn, camera_groups

PAIRS = [(0, 1, 0.5), (0, 2, 0.25), (1, 2, 1.0), (3, 4, 0.0), (2, 4, 0.5)]


def block(*pairs: tuple[int, int, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    first, second, distance = (np.array(part) for part in zip(*pairs, strict=True))
    return first, second, distance.astype(np.float64)


def visited(held: HeldPairs, epsilon: float) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    held.visit(epsilon, lambda i, j, _: found.extend(zip(i.tolist(), j.tolist(), strict=True)))
    return found


def limit_to(monkeypatch: pytest.MonkeyPatch, most: int, per_sample: int = 0) -> None:
    monkeypatch.setattr(pairs, "_MIN_PAIRS", most)
    monkeypatch.setattr(pairs, "_PAIRS_PER_SAMPLE", per_sample)


def test_groups_differ_where_cameras_do() -> None:
    groups = camera_groups(np.array([7, -2, 7, 2**62, -2]), 5)
    assert groups.tolist() == [1, 0, 1, 2, 0]
    assert groups.dtype == np.int32


def test_groups_all_differ_where_cameras_are_unknown() -> None:
    assert camera_groups(None, 4).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("epsilon", "expected"),
    [
        (1.0, [(0, 1), (0, 2), (1, 2), (3, 4), (2, 4)]),
        (0.5, [(0, 1), (0, 2), (3, 4), (2, 4)]),
        (np.nextafter(0.5, 0), [(0, 2), (3, 4)]),
        (0.0, [(3, 4)]),
    ],
)
def test_held_pairs_are_given_up_to_the_radius_itself(epsilon: float, expected: list) -> None:
    held = HeldPairs(5, 1.0)
    held.add(*block(*PAIRS[:2]))
    held.add(*block(*PAIRS[2:]))
    held.add(*(part[:0] for part in block(*PAIRS)))
    assert visited(held, epsilon) == expected
    assert held.bound == 1.0
    assert not held.overflown


def test_samples_of_held_pairs_are_kept_in_four_bytes() -> None:
    held = HeldPairs(5, 1.0)
    held.add(*block(*PAIRS))
    [(first, second, distance)] = held.blocks()
    assert first.dtype == second.dtype == np.int32
    assert distance.dtype == np.float64


@pytest.mark.parametrize(("pairs", "per_sample", "holds"), [(5, 0, True), (4, 0, False), (0, 1, True)])
def test_pairs_beyond_the_budget_are_all_let_go(
    monkeypatch: pytest.MonkeyPatch, pairs: int, per_sample: int, holds: bool
) -> None:
    limit_to(monkeypatch, pairs, per_sample)
    held = HeldPairs(5, 1.0)
    for pair in PAIRS:
        held.add(*block(pair))
    assert held.overflown != holds
    assert len(visited(held, 1.0)) == (5 if holds else 0)
    held.add(*block(PAIRS[0]))
    # Once too many, they are not held again.
    assert held.overflown
    assert held.blocks() == []


@pytest.mark.parametrize("budget", [100, 10**6])
def test_threads_may_add_pairs_at_the_same_time(monkeypatch: pytest.MonkeyPatch, budget: int) -> None:
    limit_to(monkeypatch, budget)
    held = HeldPairs(1000, 1.0)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: held.add(*block((i, i + 1, 0.5), (i, i + 2, 0.5))), range(500)))
    assert held.overflown == (budget == 100)
    expected = [] if held.overflown else [(i, i + step) for i in range(500) for step in (1, 2)]
    assert sorted(visited(held, 0.5)) == expected


def test_pairs_are_passed_on_one_block_at_a_time() -> None:
    inside, most, seen = [], [], []

    def visit(first: np.ndarray, second: np.ndarray, distance: np.ndarray) -> None:
        inside.append(True)
        most.append(len(inside))
        time.sleep(0.002)
        inside.pop()
        seen.extend(first.tolist())

    passed_on = PairsPassedOn(0.5, visit)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: passed_on.add(*block((i, i + 1, 0.5))), range(20)))
    assert max(most) == 1
    assert sorted(seen) == list(range(20))
    assert passed_on.bound == 0.5
