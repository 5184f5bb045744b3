"""Euclidean distances from one sweep against differences in float64."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import clustering_oracle as oracle
import numpy as np
import pytest
import torch
from clustering_cases import Case, cases, make_case, rows_on, threads, tiny_blocks
from hypothesis import given, settings
from hypothesis import strategies as st

from nplp.clustering.sweep import euclidean, smallest, tiles
from nplp.clustering.sweep.euclidean import EuclideanDistances
from nplp.clustering.sweep.features import FeatureRows
from nplp.clustering.sweep.pairs import camera_groups

DEVICES = [None, torch.device("cpu")]


def distances_of(
    features: np.ndarray, keep_sums: bool = False, device: torch.device | None = None
) -> EuclideanDistances:
    return EuclideanDistances(rows_on(device, features), keep_sums=keep_sums)


@contextmanager
def bfloat16(pays: bool) -> Iterator[None]:
    """Let bfloat16 pay for finding pairs, or not, whatever the processor."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "half_precision_pays", lambda *_: pays)
        yield


def edge_list(distances: EuclideanDistances, epsilon: float) -> list[tuple[int, int]]:
    edges: list[tuple[int, int]] = []
    distances.visit_edges(epsilon, lambda i, j: edges.extend(zip(i.tolist(), j.tolist(), strict=True)))
    return edges


def stage_matrix(features: np.ndarray) -> np.ndarray:
    """Return the distances [N, N] as the stage has them, to the last bit."""
    first, second = np.indices((len(features), len(features))).reshape(2, -1)
    squared = FeatureRows.plain(features).squared_distances(first, second)
    return np.sqrt(squared).reshape(len(features), -1)


def expected_sums(matrix: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    clustered = labels >= 0
    same = (labels[:, None] == labels) & clustered
    return (matrix * same).sum(axis=1), (matrix * np.outer(clustered, clustered)).sum(axis=1)


@given(cases(), st.floats(0, 1), st.booleans(), st.booleans(), st.booleans(), st.sampled_from(DEVICES))
@settings(max_examples=150, deadline=None)
def test_edges_at_the_radius_itself_are_within_it(
    case: Case, quantile: float, averaged: bool, half: bool, tiny: bool, device: torch.device | None
) -> None:
    matrix = stage_matrix(case.features)
    upper = np.triu(np.ones(matrix.shape, dtype=bool), 1)
    i, j = np.argwhere(upper)[int(quantile * (upper.sum() - 1))]
    with tiny_blocks(tiny), threads(2), bfloat16(half):
        distances = distances_of(case.features, device=device)
        if averaged:
            distances.mean_of_smallest(None, max(1, int(quantile * upper.sum())))
        for radius in (matrix[i, j], np.nextafter(matrix[i, j], -1)):
            edges = edge_list(distances, radius)
            assert sorted(map(list, edges)) == np.argwhere(upper & (matrix <= radius)).tolist()


def test_edges_are_the_oracles() -> None:
    features = make_case(0, count=60, dimension=8, cameras=1, kind="blobs").features
    for epsilon in (0.3, 0.9, 2.0, 50.0):
        near = np.triu(oracle.euclidean_matrix(features) <= epsilon, 1)
        assert sorted(edge_list(distances_of(features), epsilon)) == list(map(tuple, np.argwhere(near)))


@given(cases(), st.floats(0.001, 1), st.booleans(), st.booleans(), st.booleans(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_mean_of_smallest_is_the_sorted_mean(
    case: Case, share: float, across: bool, keep_sums: bool, half: bool, tiny: bool
) -> None:
    first, second = oracle.compared_pairs(len(case.features), case.camera_ids if across else None)
    alone = (case.camera_ids == case.camera_ids[0]).all()
    values = np.sort(stage_matrix(case.features)[first, second])
    count = max(1, int(share * len(values)))
    with tiny_blocks(tiny), threads(2), bfloat16(half):
        distances = distances_of(case.features, keep_sums=keep_sums)
        mean = distances.mean_of_smallest(case.camera_ids if across and not alone else None, count)
    # Beyond 20 pairs, tiny blocks take what is surely below the last of them from products.
    rel = 1e-6 if tiny and count > 20 else 1e-12
    assert mean == pytest.approx(values[:count].mean(), rel=rel, abs=1e-300)
    if values[0] == values[count - 1]:
        assert mean == values[0]


@pytest.mark.parametrize("wrong", [0.0, 0.3, 3.0])
@pytest.mark.parametrize("capacity", [20, 10**6])
@pytest.mark.parametrize(("half", "device"), [(False, None), (True, None), (False, DEVICES[1])])
def test_wrong_guess_costs_sweeps_only(
    monkeypatch: pytest.MonkeyPatch, wrong: float, capacity: int, half: bool, device: torch.device | None
) -> None:
    case = make_case(1, count=120, dimension=5, cameras=3, kind="uniform")
    first, second = oracle.compared_pairs(120, case.camera_ids)
    values = np.sort(stage_matrix(case.features)[first, second])
    monkeypatch.setattr(euclidean, "_SAMPLED_PAIRS", 500)
    monkeypatch.setattr(smallest, "_MIN_VALUES", capacity)
    monkeypatch.setattr(smallest, "_VALUES_PER_SAMPLE", 0)
    squared_distances = FeatureRows.squared_distances
    for count in (1, 300, len(values)):
        distances = distances_of(case.features, device=device)
        with monkeypatch.context() as patch:
            patch.setattr(
                FeatureRows, "squared_distances", lambda *pairs: wrong**2 * squared_distances(*pairs)
            )
            guess = distances._guess(camera_groups(case.camera_ids, 120), count)._replace(half=half)
        monkeypatch.setattr(distances, "_guess", lambda *_, guess=guess: guess)
        mean = distances.mean_of_smallest(case.camera_ids, count)
        assert mean == pytest.approx(values[:count].mean(), rel=1e-6)
        matrix = stage_matrix(case.features)
        expected = np.argwhere(np.triu(matrix <= mean, 1)).tolist()
        assert sorted(map(list, edge_list(distances, mean))) == expected


def test_cameras_of_which_no_pair_is_sampled_are_averaged(monkeypatch: pytest.MonkeyPatch) -> None:
    # One image of 100 is of another camera, so that no pair of a small sample need cross.
    monkeypatch.setattr(euclidean, "_SAMPLED_PAIRS", 3)
    features = np.random.default_rng(0).normal(size=(100, 4))
    cameras = np.zeros(100, dtype=np.int64)
    cameras[0] = 1
    values = np.sort(stage_matrix(features)[0, 1:])
    distances = distances_of(features)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mean = distances.mean_of_smallest(cameras, 9)
    assert mean == pytest.approx(values[:9].mean(), rel=1e-12)
    assert sorted(edge_list(distances, mean)) == sorted(edge_list(distances_of(features), mean))


@pytest.mark.parametrize(("half", "expected"), [(False, [(False, 90)]), (True, [(True, 90), (False, 90)])])
def test_no_sweep_is_made_twice(
    monkeypatch: pytest.MonkeyPatch, half: bool, expected: list[tuple[bool, int]]
) -> None:
    sweeps = []
    sweep = euclidean.sweep
    monkeypatch.setattr(
        euclidean,
        "sweep",
        lambda source, *rest: (sweeps.append((source.half, len(rest[0]))), sweep(source, *rest)),
    )
    monkeypatch.setattr(euclidean, "_SAMPLED_PAIRS", 400)
    monkeypatch.setattr(euclidean, "_MOST_OPEN", 1.0)
    monkeypatch.setattr(tiles, "half_precision_pays", lambda *_: half)
    features = make_case(2, count=90, dimension=5, cameras=1, kind="blobs").features
    distances = distances_of(features, keep_sums=True)
    epsilon = distances.mean_of_smallest(None, 200)
    edge_list(distances, epsilon)
    edge_list(distances, epsilon / 2)
    distances.cluster_sums(np.arange(90) % 5)
    assert sweeps == expected
    # Sums over the 80 clustered samples are those over all, where known, less those to the 10 others.
    distances.cluster_sums(np.where(np.arange(90) < 10, -1, np.arange(90) % 5))
    assert sweeps[-1][1] == 80


@pytest.mark.parametrize(("spread", "half"), [(0.01, False), (1.0, True)])
def test_pairs_that_bfloat16_would_leave_open_are_found_by_float32(
    monkeypatch: pytest.MonkeyPatch, spread: float, half: bool
) -> None:
    # Two groups far apart: with tight ones, no distance within a group shows in products of 1% error.
    monkeypatch.setattr(euclidean, "_SAMPLED_PAIRS", 2000)
    rng = np.random.default_rng(0)
    features = spread * rng.normal(size=(300, 70)) + 20 * np.repeat([[0.0], [1.0]], 150, axis=0) * (1 - half)
    distances = distances_of(features)
    with bfloat16(True):
        assert distances._guess(np.arange(300), 40).half == half
        values = np.sort(stage_matrix(features)[np.triu_indices(300, 1)])
        assert distances.mean_of_smallest(None, 40) == pytest.approx(values[:40].mean(), rel=1e-12)


def test_one_far_sample_costs_no_digit_among_the_near_ones() -> None:
    rng = np.random.default_rng(0)
    near = rng.normal(size=(40, 4)) * 1e-5
    features = np.concatenate([near, near + 1e-4, [[1e4] * 4]])
    labels = np.repeat([0, 1, 2], [40, 40, 1])
    own, total = distances_of(features).cluster_sums(labels)
    expected = expected_sums(oracle.euclidean_matrix(features), labels)
    np.testing.assert_allclose(own, expected[0], rtol=1e-6)
    np.testing.assert_allclose(total, expected[1], rtol=1e-6)
    assert distances_of(features).mean_of_smallest(None, 3) < 1e-5


@pytest.mark.parametrize("dimension", [64, 300])
@pytest.mark.parametrize("kind", ["unit_norm", "grid", "far_groups", "near_duplicates", "mixed_norms"])
def test_sums_of_products_are_near_those_of_differences(kind: str, dimension: int) -> None:
    case = make_case(5, count=2600, dimension=dimension, cameras=1, kind=kind, offset=1.0)
    labels = np.random.default_rng(1).integers(-1, 400, size=2600)
    expected = expected_sums(oracle.euclidean_matrix(case.features), labels)
    own, total = distances_of(case.features).cluster_sums(labels)
    np.testing.assert_allclose(own, expected[0], rtol=1e-6)
    np.testing.assert_allclose(total, expected[1], rtol=3e-6)


@given(
    cases(), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.1, 0.6, 1.0]), st.booleans(), st.booleans()
)
@settings(max_examples=80, deadline=None)
def test_cluster_sums_leave_outliers_out(
    case: Case, seed: int, outliers: float, swept: bool, tiny: bool
) -> None:
    rng = np.random.default_rng(seed)
    count = len(case.features)
    labels = np.where(rng.random(size=count) < outliers, -1, rng.integers(0, 3, size=count))
    matrix = oracle.euclidean_matrix(case.features)
    with tiny_blocks(tiny), threads(2):
        distances = distances_of(case.features, keep_sums=True)
        if swept:
            distances.mean_of_smallest(None, 1 + count // 3)
        own, total = distances.cluster_sums(labels)
    expected = expected_sums(matrix, labels)
    np.testing.assert_allclose(own, expected[0], rtol=1e-6, atol=1e-12 * (1 + matrix.max()))
    # The rounding of a difference is relative to what it is a difference of.
    np.testing.assert_allclose(total, expected[1], rtol=1e-6, atol=1e-12 + 1e-7 * matrix.sum(axis=1).max())


@pytest.mark.parametrize("swept", [False, True])
@pytest.mark.parametrize("device", DEVICES)
def test_cluster_sums_of_great_clusters(swept: bool, device: torch.device | None) -> None:
    case = make_case(3, count=1300, dimension=8, cameras=1, kind="blobs")
    labels = np.repeat([0, 1, -1, 2], [600, 513, 100, 87])
    distances = distances_of(case.features, keep_sums=True, device=device)
    if swept:
        distances.mean_of_smallest(None, 5000)
    own, total = distances.cluster_sums(labels)
    expected = expected_sums(oracle.euclidean_matrix(case.features), labels)
    np.testing.assert_allclose(own, expected[0], rtol=3e-6)
    np.testing.assert_allclose(total, expected[1], rtol=3e-6)
    assert not distances.sums_are_exact


@pytest.mark.parametrize("swept", [False, True])
@pytest.mark.parametrize("count", [400, 700])
def test_few_samples_outside_a_great_cluster_lose_no_digit(count: int, swept: bool) -> None:
    rng = np.random.default_rng(4)
    features = np.concatenate([5 + rng.normal(size=(count, 130)), np.full((3, 130), 1.0)])
    labels = np.repeat([0, 1], [count, 3])
    distances = distances_of(features, keep_sums=True)
    if swept:
        distances.mean_of_smallest(None, 500)
    own, total = distances.cluster_sums(labels)
    expected = expected_sums(oracle.euclidean_matrix(features), labels)
    np.testing.assert_allclose(total - own, expected[1] - expected[0], rtol=1e-6)


@given(cases(), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_exact_cluster_sums_are_the_oracles(case: Case, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, 3, size=len(case.features))
    members = rng.permutation(np.flatnonzero(labels >= 0))[:9]
    with threads(2):
        own, total = distances_of(case.features).exact_cluster_sums(labels, members)
    expected = expected_sums(oracle.euclidean_matrix(case.features), labels)
    np.testing.assert_allclose(own, expected[0][members], rtol=1e-13)
    np.testing.assert_allclose(total, expected[1][members], rtol=1e-13)


def test_no_radius_is_known_to_reach_all() -> None:
    assert not distances_of(np.eye(3)).all_within(math.inf)
