"""Feature rows: float64 blocks, camera centring, means."""

from __future__ import annotations

import clustering_oracle as oracle
import numpy as np
import pytest
import torch
from clustering_cases import Case, cases, tiny_blocks
from hypothesis import given, settings
from hypothesis import strategies as st

from nplp.clustering.features import FeatureRows


@given(cases(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_centring_subtracts_the_mean_of_each_camera_of_some_size(case: Case, tiny: bool) -> None:
    with tiny_blocks(tiny):
        rows = FeatureRows.centred_by_camera(torch.from_numpy(case.features), case.camera_ids)
    expected = oracle.centred(case.features, case.camera_ids)
    atol = 1e-12 * (1 + np.abs(case.features).max())
    np.testing.assert_allclose(rows.block(0, len(rows)).numpy(), expected, atol=atol)
    np.testing.assert_allclose(rows.mean(), expected.mean(axis=0), atol=atol)


def test_camera_of_few_images_keeps_the_global_mean() -> None:
    values = torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0], [20.0], [40.0]])
    rows = FeatureRows.centred_by_camera(values, np.array([9, 9, 9, 9, 9, 2, 2]))
    assert rows.block(0, 7).flatten().tolist() == [-2, -1, 0, 1, 2, 10, 30]


@pytest.mark.parametrize("centring", [False, True])
def test_blocks_subsets_and_distances_agree(centring: bool) -> None:
    rng = np.random.default_rng(0)
    features, cameras = rng.normal(size=(20, 3)) + 100, np.repeat([0, 1], 10)
    values = torch.from_numpy(features)
    rows = FeatureRows.centred_by_camera(values, cameras) if centring else FeatureRows(values)
    seen = oracle.centred(features, cameras) if centring else features
    members = np.array([1, 4, 15])
    np.testing.assert_allclose(rows.subset(members).block(0, 3).numpy(), seen[members], atol=1e-12)
    np.testing.assert_allclose(rows.block(5, 9, np.ones(3)).numpy(), seen[5:9] - 1, atol=1e-12)
    first, second = np.array([0, 3, 3]), np.array([19, 3, 4])
    expected = ((seen[first] - seen[second]) ** 2).sum(axis=1)
    np.testing.assert_allclose(rows.squared_distances(first, second), expected, rtol=1e-12)


def test_distance_of_a_pair_is_the_same_in_any_company() -> None:
    values = torch.from_numpy(np.random.default_rng(1).normal(size=(50, 333)).astype(np.float32))
    rows = FeatureRows(values)
    first, second = np.triu_indices(50, 1)
    together = rows.squared_distances(first, second)
    with tiny_blocks():
        alone = rows.squared_distances(first, second)
    np.testing.assert_array_equal(alone, together)
    np.testing.assert_array_equal(rows.squared_distances(second, first), together)
