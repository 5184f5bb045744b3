"""What is read off a tile: sums that come in any order, and the pairs that must be settled."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from clustering_cases import Case, cases, make_case, rows_on, threads, tiny_blocks
from hypothesis import given, settings
from hypothesis import strategies as st

from nplp.clustering.sweep.euclidean_tiles import DistanceSums, PairSearch, TileReader
from nplp.clustering.sweep.features import FeatureRows
from nplp.clustering.sweep.pairs import HeldPairs
from nplp.clustering.sweep.parallel import Progress
from nplp.clustering.sweep.smallest import Bracket, MeanOfSmallest
from nplp.clustering.sweep.tiles import TileSource, sweep

DEVICES = [None, torch.device("cpu")]


def parts_of_sums(rng: np.random.Generator) -> list[tuple[int, np.ndarray]]:
    return [(int(start), 60 * rng.random(size=9)) for start in rng.integers(0, 41, size=200)]


def test_sums_do_not_depend_on_the_order_of_their_parts() -> None:
    rng = np.random.default_rng(0)
    parts = parts_of_sums(rng)
    results = []
    for _ in range(10):
        sums = DistanceSums(50, 10_000)
        for i in rng.permutation(len(parts)):
            sums.add(*parts[i])
        results.append(sums.values())
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])
    expected = np.zeros(50)
    for start, values in parts:
        expected[start : start + 9] += values
    np.testing.assert_allclose(results[0], expected, rtol=1e-13)


def test_threads_may_add_to_sums_at_the_same_time() -> None:
    parts = parts_of_sums(np.random.default_rng(1)) * 5
    alone, together = DistanceSums(50, 10_000), DistanceSums(50, 10_000)
    for part in parts:
        alone.add(*part)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda part: together.add(*part), parts))
    np.testing.assert_array_equal(together.values(), alone.values())


@pytest.mark.parametrize("terms", [0, 1, 2, 1000, 1024, 1025, 10**8])
def test_the_greatest_sums_fit_and_the_least_terms_count(terms: int) -> None:
    sums = DistanceSums(2, terms)
    sums.add(0, np.array([2.01 * terms, 0.0]))
    sums.add(1, np.array([1e-9]))
    assert sums.values()[0] == pytest.approx(2.01 * terms, rel=1e-15)
    assert sums.values()[1] == pytest.approx(1e-9, abs=4e-18 * max(terms, 1))


class Read:
    """What a symmetric sweep over all samples gives to sums, a stream and held pairs."""

    def __init__(
        self,
        rows: FeatureRows,
        groups: np.ndarray,
        bracket: Bracket,
        near: float,
        *,
        summed: bool,
    ) -> None:
        source = TileSource(rows)
        count = len(rows)
        everything = np.arange(count)
        within, across = ((bound * source.scale) ** 2 * (1 + 2.0**-20) for bound in (near, bracket.high))
        # The mean of as many as there are pairs at most: none of them is dropped.
        self.smallest = MeanOfSmallest(count**2, bracket, np.inf)
        self.held = HeldPairs(count, near)
        sums = DistanceSums(count, count) if summed else None
        search = PairSearch(groups, within, max(within, across), self.smallest, self.held)
        with threads(2):
            sweep(
                source,
                everything,
                None,
                lambda: TileReader(source, everything, everything, search, sums, sums),
                Progress(),
                "",
            )
        self.sums = None if sums is None else sums.values() / source.scale

    def pairs(self) -> Iterator[tuple[int, int, float]]:
        for block in self.held.blocks():
            yield from zip(*(part.tolist() for part in block), strict=True)


@given(
    cases(),
    st.floats(0, 1),
    st.floats(0, 1),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from(DEVICES),
)
@settings(max_examples=150, deadline=None)
def test_each_pair_goes_where_it_belongs(
    case: Case,
    one: float,
    other: float,
    centring: bool,
    summed: bool,
    tiny: bool,
    device: torch.device | None,
) -> None:
    rows = rows_on(device, case.features)
    if centring:
        rows = FeatureRows.centred_by_camera(case.features, case.camera_ids, rows.on_device)
    first, second = np.triu_indices(len(rows), 1)
    distance = np.sqrt(rows.squared_distances(first, second))
    crossing = case.camera_ids[first] != case.camera_ids[second]
    ordered = np.sort(distance)
    low, high = sorted(ordered[int(share * (len(ordered) - 1))] for share in (one, other))
    near = ordered[len(ordered) // 3]
    with tiny_blocks(tiny), pytest.MonkeyPatch.context() as patch:
        patch.setattr("nplp.clustering.sweep.pairs._MIN_PAIRS", 10**6)
        patch.setattr("nplp.clustering.sweep.smallest._MIN_VALUES", 10**6)
        groups = case.camera_ids.astype(np.int32)
        read = Read(rows, groups, Bracket(low, high), near, summed=summed)
    wanted = distance <= near
    expected = zip(first[wanted].tolist(), second[wanted].tolist(), distance[wanted].tolist(), strict=True)
    assert sorted(read.pairs()) == sorted(expected)
    stream = read.smallest
    inside = distance[crossing & (distance >= low) & (distance <= high)]
    np.testing.assert_array_equal(np.sort(np.concatenate([*stream._held, []])), np.sort(inside))
    below = distance[crossing & (distance < low)]
    assert stream._below == len(below)
    assert sum(stream._sums) == pytest.approx(below.sum(), rel=1e-5)
    if summed:
        sums = np.bincount(first, distance, len(rows)) + np.bincount(second, distance, len(rows))
        np.testing.assert_allclose(read.sums, sums, rtol=1e-6, atol=1e-12 * (1 + ordered[-1]))


@pytest.mark.parametrize("device", DEVICES)
def test_few_pairs_are_settled_where_products_decide(
    monkeypatch: pytest.MonkeyPatch, device: torch.device | None
) -> None:
    settled = []
    exact = FeatureRows.squared_distances

    def counted(self: FeatureRows, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        settled.append(len(first))
        return exact(self, first, second)

    case = make_case(2, count=400, dimension=32, cameras=3, kind="blobs")
    rows = rows_on(device, case.features)
    first, second = np.triu_indices(400, 1)
    ordered = np.sort(np.sqrt(rows.squared_distances(first, second)))
    monkeypatch.setattr(FeatureRows, "squared_distances", counted)
    near = ordered[300]
    read = Read(rows, case.camera_ids.astype(np.int32), Bracket(0.0, near), near, summed=False)
    assert len(list(read.pairs())) == 301
    assert sum(settled) < 310
