"""The lookup table's start and eq. 11, against loops."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from nplp.losses import cluster_centroids, update_lookup_table_
from nplp.losses.lookup_table import ROWS_AT_ONCE


def sequential_update(
    table: torch.Tensor, features: torch.Tensor, labels: torch.Tensor, normalize: bool
) -> torch.Tensor:
    """Eq. 11, one sample after the other."""
    table = table.clone()
    for f_r, label in zip(features, labels.tolist(), strict=True):
        row = (table[label] + f_r) / 2
        table[label] = F.normalize(row.unsqueeze(0), dim=1)[0] if normalize else row
    return table


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    clusters=st.integers(1, 5),
    batch=st.integers(1, 16),
    normalize=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_update_is_the_sequential_one(
    seed: int, clusters: int, batch: int, normalize: bool, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(seed)
    table = F.normalize(torch.randn(clusters, 19, generator=generator, dtype=dtype), dim=1)
    features = F.normalize(torch.randn(batch, 19, generator=generator, dtype=dtype), dim=1)
    labels = torch.randint(clusters, (batch,), generator=generator)
    expected = sequential_update(table, features, labels, normalize)
    updated = update_lookup_table_(table, features, labels, normalize)
    assert updated is table
    assert torch.equal(updated, expected)


def test_last_sample_weighs_half_hand_computed() -> None:
    table = torch.tensor([[8.0], [100.0]])
    features = torch.tensor([[0.0], [4.0], [2.0]])
    update_lookup_table_(table, features, torch.tensor([0, 0, 0]), normalize=False)
    assert table.tolist() == [[8 / 8 + 0 / 8 + 4 / 4 + 2 / 2], [100.0]]


def test_normalised_after_each_sample_hand_computed() -> None:
    """(1,0) and (0,1) give (1,1)/sqrt 2, not the (0.5, 0.5) of the literal form."""
    table = torch.tensor([[1.0, 0.0]])
    update_lookup_table_(table, torch.tensor([[0.0, 1.0]]), torch.tensor([0]), normalize=True)
    torch.testing.assert_close(table, torch.full((1, 2), math.sqrt(0.5)))


@pytest.mark.parametrize("bad", [math.nan, math.inf, 3e38])
def test_non_finite_sample_is_skipped_and_the_others_are_not(bad: float) -> None:
    table = torch.tensor([[3e38, 2.0], [0.0, 0.0]])
    features = torch.tensor([[bad, 2.0], [4.0, 6.0]])
    update_lookup_table_(table, features, torch.tensor([0, 1]), normalize=False)
    assert torch.equal(table, torch.tensor([[3e38, 2.0], [2.0, 3.0]]))


def naive_centroids(features: torch.Tensor, labels: torch.Tensor, clusters: int) -> list[list[float]]:
    return [
        [
            math.fsum(column) / sum(labels == k).item()
            for column in zip(*features[labels == k].tolist(), strict=True)
        ]
        for k in range(clusters)
    ]


def test_centroids_match_loop_and_ignore_outliers() -> None:
    features = torch.randn(30, 4)
    labels = torch.cat([torch.arange(5), torch.randint(-1, 5, (25,))])
    labels[7] = -1
    features[7] = math.nan
    centroids = cluster_centroids(features, labels, 5)
    assert centroids.dtype == torch.float32
    torch.testing.assert_close(centroids, torch.tensor(naive_centroids(features, labels, 5)))


def test_centroids_sum_in_float64_across_chunks() -> None:
    """Float32 sums of this many values near 1e4 would miss the mean's small part."""
    count = ROWS_AT_ONCE + 5
    features = torch.full((count, 1), 10000.0)
    features[-5:] = 20000.0
    exact = 10000.0 + 5 * 10000.0 / count
    centroid = cluster_centroids(features, torch.zeros(count, dtype=torch.int32), 1)
    assert centroid.item() == pytest.approx(exact, abs=1e-3)


def test_centroids_of_float64_features_stay_float64() -> None:
    centroid = cluster_centroids(torch.tensor([[0.1], [0.2]], dtype=torch.float64), torch.tensor([0, 0]), 1)
    assert centroid.dtype == torch.float64
    assert centroid.item() == pytest.approx(0.15, abs=1e-15)


@pytest.mark.parametrize(
    ("labels", "clusters", "message"),
    [
        ([0, 0, 2], 3, "cluster 1 of 3 has none"),
        ([-1, -1, -1], 1, "cluster 0 of 1 has none"),
        ([0, 1, 2], 2, r"labels must be in \[-1, 2\), got 2"),
        ([0, 1, -2], 2, r"labels must be in \[-1, 2\), got -2"),
        ([0, 0, 0], 0, "num_clusters must be at least 1, got 0"),
        ([0, 0], 1, "features must be"),
    ],
)
def test_centroids_reject(labels: list[int], clusters: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cluster_centroids(torch.ones(3, 2), torch.tensor(labels), clusters)
