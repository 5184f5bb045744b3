"""Label quality against counts over all pairs, and small cases worked out by hand."""

from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from nplp.clustering import label_quality


def ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


@pytest.mark.filterwarnings("ignore:The number of unique classes")
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 6), st.integers(1, 6))
@settings(max_examples=100, deadline=None)
def test_measures_are_those_of_all_pairs(seed: int, count: int, clusters: int, people: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, clusters, size=count)
    identities, cameras = rng.integers(0, people, size=count) - 1, rng.integers(0, 3, size=count)
    quality = label_quality(labels, identities, cameras)
    pairs = list(combinations(range(count), 2))
    inside = {p for p in pairs if labels[p[0]] == labels[p[1]] != -1}
    same = {p for p in pairs if identities[p[0]] == identities[p[1]]}
    across = {p for p in same if cameras[p[0]] != cameras[p[1]]}
    assert quality.precision == ratio(len(inside & same), len(inside))
    assert quality.recall == ratio(len(inside & same), len(same))
    assert quality.f1 == pytest.approx(ratio(2 * len(inside & same), len(inside) + len(same)))
    assert quality.cross_camera_recall == ratio(len(inside & across), len(across))
    assert quality.fragmented_noise == ratio(len(same - inside), len(same))
    wrong, sizes = 0, [0]
    for label in set(labels.tolist()) - {-1}:
        members = identities[labels == label].tolist()
        wrong += len(members) - max(members.count(person) for person in members)
        sizes.append(len(members))
    assert quality.mixed_noise == ratio(wrong, sum(sizes))
    assert quality.largest_cluster_share == ratio(max(sizes), sum(sizes))
    assert quality.clusters == len(sizes) - 1
    assert quality.outliers == count - sum(sizes)
    alone = [label if label >= 0 else -2 - i for i, label in enumerate(labels.tolist())]
    assert quality.nmi == pytest.approx(normalized_mutual_info_score(identities, alone), abs=1e-12)
    assert quality.ari == pytest.approx(adjusted_rand_score(identities, alone), abs=1e-12)


def test_hand_computed() -> None:
    quality = label_quality([0, 0, 0, 1, 1, -1], [7, 7, 8, 8, 8, 8], [0, 1, 0, 0, 1, 1])
    assert quality.precision == 2 / 4
    assert quality.recall == 2 / 7
    assert quality.f1 == pytest.approx(4 / 11)
    # Across cameras: (0, 1), (2, 4), (2, 5), (3, 4), (3, 5), of which (0, 1) and (3, 4) are found.
    assert quality.cross_camera_recall == 2 / 5
    assert quality.mixed_noise == 1 / 5
    assert quality.fragmented_noise == 5 / 7
    assert (quality.clusters, quality.outliers, quality.largest_cluster_share) == (2, 1, 3 / 5)


def test_perfect_labels() -> None:
    quality = label_quality(torch.tensor([2, 2, 0, 0, 1]), np.array([5, 5, 9, 9, 4]))
    assert quality.precision == quality.recall == quality.f1 == 1
    assert quality.nmi == pytest.approx(1)
    assert quality.ari == 1
    assert quality.mixed_noise == quality.fragmented_noise == 0
    assert quality.cross_camera_recall is None


def test_outliers_only() -> None:
    quality = label_quality([-1, -1, -1], [0, 0, 1], [0, 1, 1])
    assert (quality.precision, quality.recall, quality.fragmented_noise) == (0, 0, 1)
    assert (quality.clusters, quality.outliers, quality.largest_cluster_share) == (0, 3, 0)


def test_no_images_have_no_noise() -> None:
    quality = label_quality([], [], [])
    assert (quality.precision, quality.recall, quality.nmi, quality.ari) == (0, 0, 1, 1)
    assert quality.mixed_noise == quality.fragmented_noise == quality.clusters == quality.outliers == 0


def test_values_can_be_written_as_json() -> None:
    values = label_quality([0, 0, 1, -1], [0, 1, 1, 1], [0, 1, 0, 1]).as_dict()
    assert json.loads(json.dumps(values)) == values


@pytest.mark.parametrize(
    ("labels", "identities", "cameras", "message"),
    [
        ([0, 1], [0, 1, 2], None, r"identities must be of shape \[2\]"),
        ([0, 1], [0, 1], [0], r"camera_ids must be of shape \[2\]"),
        ([0.0, 1.0], [0, 1], None, "labels must be integers, got float64"),
        ([0, -2], [0, 1], None, r"labels must be -1 \(outlier\) or more, got -2"),
    ],
)
def test_wrong_arguments_are_named(
    labels: list, identities: list, cameras: list | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        label_quality(labels, identities, cameras)
