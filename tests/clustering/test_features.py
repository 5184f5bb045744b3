"""Feature rows: float64 blocks, camera centring, means."""

from __future__ import annotations

import clustering_oracle as oracle
import numpy as np
import pytest
from clustering_cases import Case, cases, tiny_blocks
from hypothesis import given, settings
from hypothesis import strategies as st

from nplp.clustering.features import FeatureRows, centred_rows


def seen(rows: FeatureRows) -> np.ndarray:
    """Return the rows as sums and products see them, unscaled and without an origin."""
    out = np.empty((len(rows), rows.dimension))
    centred_rows(*rows.arrays, np.zeros(rows.dimension), 1.0, np.arange(len(rows)), out)
    return out


@given(cases(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_centring_subtracts_the_mean_of_each_camera_of_some_size(case: Case, tiny: bool) -> None:
    with tiny_blocks(tiny):
        rows = FeatureRows.centred_by_camera(case.features, case.camera_ids)
    expected = oracle.centred(case.features, case.camera_ids)
    atol = 1e-12 * (1 + np.abs(case.features).max())
    np.testing.assert_allclose(seen(rows), expected, atol=atol)
    np.testing.assert_allclose(rows.mean(), expected.mean(axis=0), atol=atol)


def test_camera_of_few_images_keeps_the_global_mean() -> None:
    values = np.array([[0.0], [1.0], [2.0], [3.0], [4.0], [20.0], [40.0]])
    rows = FeatureRows.centred_by_camera(values, np.array([9, 9, 9, 9, 9, 2, 2]))
    assert seen(rows).flatten().tolist() == [-2, -1, 0, 1, 2, 10, 30]


@pytest.mark.parametrize("centring", [False, True])
def test_distances_and_norms_are_those_of_the_centred_rows(centring: bool) -> None:
    rng = np.random.default_rng(0)
    features, cameras = rng.normal(size=(20, 3)) + 100, np.repeat([0, 1], 10)
    rows = FeatureRows.centred_by_camera(features, cameras) if centring else FeatureRows.plain(features)
    expected = oracle.centred(features, cameras) if centring else features
    first, second = np.array([0, 3, 3]), np.array([19, 3, 4])
    squared = ((expected[first] - expected[second]) ** 2).sum(axis=1)
    np.testing.assert_allclose(rows.squared_distances(first, second), squared, rtol=1e-12)
    norms = ((expected - 1) ** 2).sum(axis=1)
    np.testing.assert_allclose(rows.squared_norms(np.ones(3)), norms, rtol=1e-12)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_distance_of_a_pair_is_the_same_in_any_company(kind: type) -> None:
    rows = FeatureRows.plain(np.random.default_rng(1).normal(size=(50, 333)).astype(kind))
    first, second = np.triu_indices(50, 1)
    together = rows.squared_distances(first, second)
    with tiny_blocks():
        alone = rows.squared_distances(first, second)
    np.testing.assert_array_equal(alone, together)
    np.testing.assert_array_equal(rows.squared_distances(second, first), together)
