"""Feature rows: camera centring, means, norms, and distances from differences."""

from __future__ import annotations

from pathlib import Path

import clustering_oracle as oracle
import numpy as np
import pytest
from clustering_cases import Case, cases, threads, tiny_blocks
from hypothesis import given, settings
from hypothesis import strategies as st

from nplp.clustering.sweep.features import FeatureRows, camera_offsets, centred_rows, scaled_by_camera


def seen_rows(
    rows: FeatureRows, members: np.ndarray | None = None, origin: float = 0.0, scale: float = 1.0
) -> np.ndarray:
    """Return the rows of samples [M, D] as products see them, but in float64."""
    members = np.arange(len(rows)) if members is None else members
    out = np.empty((len(members), rows.dimension))
    centred_rows(*rows.arrays, np.full(rows.dimension, origin), scale, members, out)
    return out


@given(cases(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_centring_subtracts_the_mean_of_each_camera_of_some_size(case: Case, tiny: bool) -> None:
    with tiny_blocks(tiny):
        rows = FeatureRows.centred_by_camera(case.features, case.camera_ids)
    expected = oracle.centred(case.features, case.camera_ids)
    atol = 1e-12 * (1 + np.abs(case.features).max())
    np.testing.assert_allclose(seen_rows(rows), expected, atol=atol)
    np.testing.assert_allclose(rows.mean(), expected.mean(axis=0), atol=atol)


def test_camera_of_few_images_keeps_the_global_mean() -> None:
    values = np.array([[0.0], [1.0], [2.0], [3.0], [4.0], [20.0], [40.0]])
    cameras = np.array([9, 9, 9, 9, 9, 2, 2])
    rows = FeatureRows.centred_by_camera(values, cameras)
    assert seen_rows(rows).flatten().tolist() == [-2, -1, 0, 1, 2, 10, 30]
    offsets, groups = camera_offsets(values, cameras)
    assert offsets.tolist() == [[10], [2]]
    assert groups.tolist() == [1, 1, 1, 1, 1, 0, 0]


def test_plain_rows_are_the_values_in_place() -> None:
    values = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    rows = FeatureRows.plain(values)
    assert rows.values is values
    assert (len(rows), rows.dimension) == (6, 3)
    np.testing.assert_array_equal(seen_rows(rows), values)
    np.testing.assert_allclose(rows.mean(), values.astype(float).mean(axis=0), atol=1e-15)


@pytest.mark.parametrize("centring", [False, True])
def test_rows_norms_and_distances_agree(centring: bool) -> None:
    rng = np.random.default_rng(0)
    features, cameras = rng.normal(size=(20, 3)) + 100, np.repeat([0, 1], 10)
    rows = FeatureRows.centred_by_camera(features, cameras) if centring else FeatureRows.plain(features)
    seen = oracle.centred(features, cameras) if centring else features
    members = np.array([15, 1, 4])
    np.testing.assert_allclose(seen_rows(rows, members, 1.0, 0.5), (seen[members] - 1) / 2, atol=1e-12)
    np.testing.assert_allclose(rows.squared_norms(np.ones(3)), ((seen - 1) ** 2).sum(axis=1), rtol=1e-12)
    first, second = np.array([0, 3, 3, 7]), np.array([19, 3, 4, 2])
    expected = ((seen[first] - seen[second]) ** 2).sum(axis=1)
    np.testing.assert_allclose(rows.squared_distances(first, second), expected, rtol=1e-12)


@pytest.mark.parametrize("centring", [False, True])
def test_distance_of_a_pair_is_the_same_in_any_company(centring: bool) -> None:
    values = np.random.default_rng(1).normal(size=(50, 333)).astype(np.float32)
    cameras = np.arange(50) % 3
    rows = FeatureRows.centred_by_camera(values, cameras) if centring else FeatureRows.plain(values)
    first, second = np.triu_indices(50, 1)
    together = rows.squared_distances(first, second)
    for number in (1, 3):
        with tiny_blocks(), threads(number):
            np.testing.assert_array_equal(rows.squared_distances(first, second), together)
    np.testing.assert_array_equal(rows.squared_distances(second, first), together)
    narrow = first.astype(np.int32), second.astype(np.int32)
    np.testing.assert_array_equal(rows.squared_distances(*narrow), together)


def test_close_rows_far_from_the_origin_lose_no_digit() -> None:
    rng = np.random.default_rng(2)
    features = (1e3 + 1e-3 * rng.normal(size=(30, 64))).astype(np.float32)
    rows = FeatureRows.plain(features)
    first, second = np.triu_indices(30, 1)
    expected = oracle.squared_matrix(features)[first, second]
    np.testing.assert_allclose(rows.squared_distances(first, second), expected, rtol=1e-14)
    centred = features.astype(float) - features.astype(float).mean(axis=0)
    np.testing.assert_allclose(rows.squared_norms(rows.mean()), (centred**2).sum(axis=1), rtol=1e-9)


@pytest.mark.parametrize("centring", [False, True])
def test_mapped_and_read_only_values_are_as_good_as_others(tmp_path: Path, centring: bool) -> None:
    values = np.random.default_rng(3).normal(size=(30, 5)).astype(np.float32)
    cameras = np.arange(30) % 2
    np.save(tmp_path / "features.npy", values)
    locked = values.copy()
    locked.flags.writeable = False
    first, second = np.triu_indices(30, 1)
    results = []
    for form in (values, locked, np.load(tmp_path / "features.npy", mmap_mode="r")):
        rows = FeatureRows.centred_by_camera(form, cameras) if centring else FeatureRows.plain(form)
        results.append((rows.squared_distances(first, second), rows.mean(), rows.squared_norms(rows.mean())))
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


@given(cases(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_scaled_features_have_a_length_of_1_or_none(case: Case, tiny: bool) -> None:
    with tiny_blocks(tiny):
        scaled = scaled_by_camera(case.features, case.camera_ids)
    assert scaled.dtype == np.float32
    lengths = np.linalg.norm(scaled, axis=1)
    assert (np.isclose(lengths, 1, atol=1e-5) | (lengths == 0)).all()


def test_scaled_values_are_the_oracles() -> None:
    rng = np.random.default_rng(0)
    cameras = np.repeat([3, 1, 7], [40, 25, 10])
    features = rng.normal(size=(75, 6)) * rng.uniform(0.1, 9, size=(8, 6))[cameras] + 5 * cameras[:, None]
    # A value that never changes, and one that a camera shows in no image.
    features[:, 0] = 0.1
    features[cameras == 1, 1] = 0.3
    for kind in (np.float32, np.float64):
        scaled = scaled_by_camera(features.astype(kind), cameras)
        assert scaled.dtype == kind
        expected = oracle.scaled_by_camera(features.astype(kind), cameras)
        np.testing.assert_allclose(scaled, expected, atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(scaled, axis=1), 1, atol=1e-6)
        assert not scaled[:, 0].any()
        assert np.abs(scaled[cameras == 1, 1]).max() < 1e-5


def test_a_camera_of_few_images_takes_the_deviations_of_all() -> None:
    # Deviation 1 in the large camera; of the 44 images about their own means, sqrt(40 + 4 * 9) / sqrt(44).
    large = np.tile([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]], (10, 1))
    few = np.array([[3.0, 0.0], [-3.0, 0.0], [3.0, 0.0], [-3.0, 0.0], [0.0, 3.0], [0.0, -3.0]])
    scaled = scaled_by_camera(np.concatenate([large, few]), np.repeat([0, 1], [40, 6]))
    np.testing.assert_allclose(scaled[:40], large / np.sqrt(2), atol=1e-12)
    np.testing.assert_allclose(scaled[40:], few / 3, atol=1e-12)


def test_equal_images_have_no_direction_and_stay_0() -> None:
    assert not scaled_by_camera(np.full((30, 4), 0.1, dtype=np.float32), np.repeat([0, 1], 15)).any()


def test_scaling_undoes_what_a_camera_does_to_values() -> None:
    rng = np.random.default_rng(1)
    cameras = np.repeat([0, 1], 50)
    features = rng.normal(size=(100, 5))
    changed = features * np.array([[1, 2, 3, 4, 5], [5, 0.1, 2, 1, 7]])[cameras] + 10.0 * cameras[:, None]
    expected = scaled_by_camera(features, cameras)
    np.testing.assert_allclose(scaled_by_camera(changed, cameras), expected, atol=1e-9)


@pytest.mark.parametrize("number", [1, 3])
def test_scaling_gives_the_same_bits_with_any_number_of_threads(number: int) -> None:
    rng = np.random.default_rng(2)
    features, cameras = rng.normal(size=(300, 7)).astype(np.float32), rng.integers(3, size=300)
    usual = scaled_by_camera(features, cameras)
    with tiny_blocks(), threads(number):
        np.testing.assert_array_equal(scaled_by_camera(features, cameras), usual)


@pytest.mark.parametrize(
    ("centring", "scaling", "known"), [(True, True, False), (False, False, True), (False, False, False)]
)
def test_features_are_left_in_place_where_nothing_is_asked_for(
    centring: bool, scaling: bool, known: bool
) -> None:
    features = np.random.default_rng(3).normal(size=(40, 3))
    rows = FeatureRows.prepared(features, np.arange(40) % 2 if known else None, centring, scaling)
    assert rows.values is features
    assert not rows.offsets.any()
