"""The nearest neighbours against a full sort: equal lists, whatever the products are good for."""

from __future__ import annotations

import clustering_oracle as oracle
import numpy as np
import pytest
import torch
from clustering_cases import KINDS, Case, cases, make_case, rows_on, threads, tiny_blocks
from hypothesis import given, settings
from hypothesis import strategies as st

from nplp.clustering.sweep import neighbours, tiles
from nplp.clustering.sweep.features import FeatureRows
from nplp.clustering.sweep.neighbours import nearest_by_camera, nearest_neighbours

DEVICES = [None, torch.device("cpu")]


def ranks_of(
    features: np.ndarray, k: int, half: bool | None = None, device: torch.device | None = None
) -> np.ndarray:
    return nearest_neighbours(rows_on(device, features), k, half=half)


@given(cases(), st.integers(1, 70), st.booleans(), st.booleans(), st.sampled_from(DEVICES))
@settings(max_examples=120, deadline=None)
def test_neighbours_are_sorted_by_distance_then_index(
    case: Case, k: int, half: bool, tiny: bool, device: torch.device | None
) -> None:
    with tiny_blocks(tiny):
        ranks = ranks_of(case.features, k, half=half, device=device)
    np.testing.assert_array_equal(ranks, oracle.neighbour_ranks(case.features, k))
    assert ranks.dtype == np.int32


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_any_number_of_threads_finds_the_same(kind: str, half: bool, number: int) -> None:
    features = make_case(number, count=150, dimension=16, cameras=1, kind=kind).features
    expected = oracle.neighbour_ranks(features, 150)
    for k in (1, 7, 30):
        with tiny_blocks(), threads(number):
            np.testing.assert_array_equal(ranks_of(features, k, half=half), expected[:, :k])


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("device", DEVICES)
def test_hundreds_of_duplicates_go_by_index(half: bool, device: torch.device | None) -> None:
    rng = np.random.default_rng(0)
    features = np.repeat(rng.normal(size=(3, 70)), [500, 300, 9], axis=0)[rng.permutation(809)]
    expected = oracle.neighbour_ranks(features, 20)
    with threads(2):
        for k in (1, 5, 20):
            np.testing.assert_array_equal(ranks_of(features, k, half=half, device=device), expected[:, :k])
    # Most samples are missing from their own list.
    assert (expected == np.arange(809)[:, None]).any(axis=1).mean() < 0.1


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("distance", [1e2, 1e4, 1e6])
@pytest.mark.parametrize("device", DEVICES)
def test_tight_groups_far_apart_are_told_apart_within(
    half: bool, distance: float, device: torch.device | None
) -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(120, 8)) + distance * (np.arange(120) % 2)[:, None]
    ranks = ranks_of(features, 10, half=half, device=device)
    np.testing.assert_array_equal(ranks, oracle.neighbour_ranks(features, 10))


@pytest.mark.parametrize("half", [False, True])
def test_small_rows_beside_great_ones_keep_their_order(half: bool) -> None:
    rng = np.random.default_rng(2)
    features = rng.normal(size=(150, 6)) * 10 ** rng.uniform(-6, 6, size=(150, 1))
    np.testing.assert_array_equal(ranks_of(features, 9, half=half), oracle.neighbour_ranks(features, 9))


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("device", DEVICES)
def test_many_almost_equal_distances_are_settled(half: bool, device: torch.device | None) -> None:
    # All rows are about equally far from one another: products decide nothing.
    rng = np.random.default_rng(3)
    features = np.eye(200) + 1e-7 * rng.normal(size=(200, 200))
    ranks = ranks_of(features, 8, half=half, device=device)
    np.testing.assert_array_equal(ranks, oracle.neighbour_ranks(features, 8))


def test_neighbours_hand_computed() -> None:
    features = np.array([[0.0], [1.0], [3.0], [1.0], [-1.0]])
    # 1 and 3 are equal, and 1, 3 and 4 are equally far from 0: the lower index goes first.
    expected = [[0, 1, 3], [1, 3, 0], [2, 1, 3], [1, 3, 0], [4, 0, 1]]
    assert ranks_of(features, 3).tolist() == expected


@pytest.mark.parametrize(("k", "width"), [(1, 1), (5, 5), (6, 6), (7, 6), (1000, 6)])
def test_no_more_neighbours_than_samples(k: int, width: int) -> None:
    features = np.random.default_rng(4).normal(size=(6, 2))
    ranks = ranks_of(features, k)
    assert ranks.shape == (6, width)
    np.testing.assert_array_equal(ranks[:, 0], np.arange(6))


@pytest.mark.parametrize("half", [False, True])
def test_neighbours_of_centred_features_are_those_of_centred_values(half: bool) -> None:
    case = make_case(5, count=90, dimension=12, cameras=3, kind="blobs")
    features = case.features + 50 * case.camera_ids[:, None]
    rows = FeatureRows.centred_by_camera(features, case.camera_ids)
    expected = oracle.neighbour_ranks(oracle.centred(features, case.camera_ids), 12)
    np.testing.assert_array_equal(nearest_neighbours(rows, 12, half=half), expected)


@pytest.mark.parametrize("pays", [False, True])
def test_half_precision_is_used_where_it_pays(monkeypatch: pytest.MonkeyPatch, pays: bool) -> None:
    used = []

    class Recorded(neighbours.TileSource):
        def __init__(self, features: FeatureRows, half: bool) -> None:
            used.append(half)
            super().__init__(features, half)

    monkeypatch.setattr(neighbours, "TileSource", Recorded)
    monkeypatch.setattr(tiles, "half_precision_pays", lambda *_: pays)
    features = np.random.default_rng(6).normal(size=(40, 20))
    np.testing.assert_array_equal(ranks_of(features, 5), oracle.neighbour_ranks(features, 5))
    assert used == [pays]


def lists_by_camera(
    features: np.ndarray, camera_ids: np.ndarray, k_same: int, k_other: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return both lists from a full sort, with -1 where there are too few."""
    count = len(features)
    ranks = oracle.neighbour_ranks(features, count)
    found = np.full((count, min(k_same, count)), -1), np.full((count, min(k_other, count)), -1)
    for i, row in enumerate(ranks):
        same = camera_ids[row] == camera_ids[i]
        for near, chosen in zip(found, (row[same], row[~same]), strict=True):
            near[i, : len(chosen)] = chosen[: near.shape[1]]
    return found


@given(
    cases(), st.integers(1, 30), st.integers(1, 70), st.booleans(), st.booleans(), st.sampled_from(DEVICES)
)
@settings(max_examples=120, deadline=None)
def test_neighbours_by_camera_are_sorted_by_distance_then_index(
    case: Case, k_same: int, k_other: int, half: bool, tiny: bool, device: torch.device | None
) -> None:
    with tiny_blocks(tiny):
        rows = rows_on(device, case.features)
        found = nearest_by_camera(rows, case.camera_ids, k_same, k_other, half=half)
    for near, expected in zip(
        found, lists_by_camera(case.features, case.camera_ids, k_same, k_other), strict=True
    ):
        np.testing.assert_array_equal(near, expected)
        assert near.dtype == np.int32


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("device", DEVICES)
def test_any_number_of_threads_finds_the_same_by_camera(kind: str, device: torch.device | None) -> None:
    case = make_case(7, count=150, dimension=16, cameras=5, kind=kind)
    expected = lists_by_camera(case.features, case.camera_ids, 6, 21)
    for number in (1, 3):
        with tiny_blocks(), threads(number):
            found = nearest_by_camera(rows_on(device, case.features), case.camera_ids, 6, 21)
        for near, wanted in zip(found, expected, strict=True):
            np.testing.assert_array_equal(near, wanted)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("device", DEVICES)
def test_hundreds_of_copies_in_a_camera_go_by_index(half: bool, device: torch.device | None) -> None:
    rng = np.random.default_rng(0)
    order = rng.permutation(809)
    features = np.repeat(rng.normal(size=(3, 70)), [500, 300, 9], axis=0)[order]
    camera_ids = np.where(order % 200 == 0, 5, order % 2)
    expected = lists_by_camera(features, camera_ids, 6, 21)
    with threads(2):
        found = nearest_by_camera(rows_on(device, features), camera_ids, 6, 21, half=half)
    for near, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(near, wanted)


def test_neighbours_by_camera_hand_computed() -> None:
    features = np.array([[0.0], [1.0], [3.0], [1.0], [-1.0]])
    same, other = nearest_by_camera(FeatureRows.plain(features), np.array([0, 0, 0, 9, 9]), 3, 2)
    assert same.tolist() == [[0, 1, 2], [1, 0, 2], [2, 1, 0], [3, 4, -1], [4, 3, -1]]
    assert other.tolist() == [[3, 4], [3, 4], [3, 4], [1, 0], [0, 1]]
