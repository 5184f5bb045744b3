"""Equation 4, self-assessment, noisy clusters and correction on small cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from clustering_oracle import distance_matrix

from nplp.clustering import estimate_pseudo_labels
from nplp.clustering.assessment import noisy_clusters, self_assessment
from nplp.clustering.correction import correct_labels
from nplp.clustering.epsilon import round_half_up, smallest_share_epsilon, startup_epsilon
from nplp.clustering.sweep.euclidean import EuclideanDistances
from nplp.clustering.sweep.features import FeatureRows


def line(*positions: float) -> EuclideanDistances:
    return EuclideanDistances(FeatureRows.plain(np.array(positions)[:, None]))


@pytest.mark.parametrize(("value", "expected"), [(0.5, 1), (1.5, 2), (2.5, 3), (2.49, 2), (0.0, 0)])
def test_halves_are_rounded_up(value: float, expected: int) -> None:
    assert round_half_up(value) == expected


def test_epsilon_hand_computed() -> None:
    distances = line(0.0, 1.0, 3.0, 7.0)
    cameras = np.array([0, 0, 1, 1])
    # Cross-camera distances: 3, 7, 2, 6.
    assert startup_epsilon(distances, cameras, 0.5) == (2.5, 4, 2)
    assert startup_epsilon(distances, cameras, 0.625) == (pytest.approx(11 / 3), 4, 3)
    assert startup_epsilon(distances, cameras, 1.0) == (4.5, 4, 4)
    assert startup_epsilon(distances, cameras, 0.001) == (2.0, 4, 1)


def test_epsilon_over_all_pairs_warns() -> None:
    with pytest.warns(UserWarning, match="camera_ids are None or all the same"):
        assert startup_epsilon(line(0.0, 1.0, 3.0), np.array([5, 5, 5]), 1.0) == (2.0, 3, 3)
    with pytest.warns(UserWarning, match="camera_ids are None or all the same"):
        assert startup_epsilon(line(0.0, 1.0, 3.0), None, 1.0) == (2.0, 3, 3)


def test_epsilon_of_a_share_of_all_pairs_hand_computed() -> None:
    # Distances: 1, 2, 3, 4, 6, 7, all counted whatever the cameras.
    assert smallest_share_epsilon(line(0.0, 1.0, 3.0, 7.0), 0.5) == (2.0, 6, 3)
    assert smallest_share_epsilon(line(0.0, 1.0, 3.0, 7.0), 0.001) == (1.0, 6, 1)
    # Twice the same sample: 0, 1, 1, 3, 3, 2, of which the 0 counts in no way.
    assert smallest_share_epsilon(line(0.0, 0.0, 1.0, 3.0), 0.6) == (pytest.approx(4 / 3), 5, 3)
    assert smallest_share_epsilon(line(2.0, 2.0, 2.0), 0.5) == (0.0, 0, 0)


@pytest.mark.parametrize("distance", ["jaccard", "euclidean"])
def test_epsilon_of_a_share_is_that_of_the_whole_matrix(distance: str) -> None:
    features = np.random.default_rng(0).normal(size=(60, 8))
    features[7] = features[3]
    matrix = distance_matrix(features, distance, 10, 3)
    values = np.sort(matrix[np.triu_indices(60, 1)])
    values = values[values > 1e-9]
    for share in (0.0016, 0.05, 1.0):
        found = estimate_pseudo_labels(
            features, None, alpha=share, k1=10, k2=3, distance=distance, epsilon_pairs="all", correct=False
        )
        count = max(1, round_half_up(share * len(values)))
        assert found.averaged_pairs == count
        assert found.literal_epsilon == pytest.approx(values[:count].mean(), rel=1e-6)


def test_a_share_of_all_pairs_is_not_chosen_by_itself() -> None:
    with pytest.raises(ValueError, match="alpha must be given with epsilon_pairs 'all'"):
        estimate_pseudo_labels(np.eye(5), None, alpha=None, epsilon_pairs="all")


def test_scores_hand_computed() -> None:
    distances = line(0.0, 1.0, 100.0, 4.0, 6.0)
    scores = self_assessment(distances, np.array([0, 0, -1, 1, 1]))
    # Sample 0: a 1, b 5. Sample 1: a 1, b 4. Sample 3: a 2, b 3.5. Sample 4: a 2, b 5.5. 100 is in no sum.
    np.testing.assert_allclose(scores, [(4 / 5 + 3 / 4) / 2, (1.5 / 3.5 + 3.5 / 5.5) / 2], atol=1e-6)


def test_scores_of_a_mixed_cluster_are_negative() -> None:
    scores = self_assessment(line(0.0, 10.0, 4.0, 6.0), np.array([0, 0, 1, 1]))
    np.testing.assert_allclose(scores, [-0.5, 0.6], atol=1e-6)


@pytest.mark.parametrize(
    ("positions", "labels", "expected"),
    [
        ((0.0, 1.0, 2.0), [0, 0, 0], [0.0]),
        ((0.0, 1.0, 2.0), [-1, -1, -1], []),
        ((0.0, 1.0, 5.0), [0, 0, 1], [(0.8 + 0.75) / 2, 0.0]),
        ((3.0, 3.0, 3.0, 3.0), [0, 0, 1, 1], [0.0, 0.0]),
        ((3.0, 3.0, 4.0, 4.0), [0, 0, 1, 1], [1.0, 1.0]),
    ],
    ids=["only cluster", "no cluster", "one member", "all equal", "duplicates"],
)
def test_scores_where_the_formula_is_undefined(
    positions: tuple[float, ...], labels: list[int], expected: list[float]
) -> None:
    np.testing.assert_allclose(self_assessment(line(*positions), np.array(labels)), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("count", "fraction", "noisy"),
    [
        (0, 0.1, 0),
        (1, 0.1, 0),
        (1, 0.5, 1),
        (2, 0.1, 1),
        (14, 0.1, 1),
        (15, 0.1, 2),
        (25, 0.1, 3),
        (3, 1.0, 3),
    ],
)
def test_number_of_noisy_clusters(count: int, fraction: float, noisy: int) -> None:
    assert len(noisy_clusters(np.linspace(0, 1, count), fraction)) == noisy


def test_noisy_clusters_are_lowest_first_and_ties_by_index() -> None:
    scores = np.array([0.5, 0.2 + 1e-13, 0.9, 0.2, -0.3])
    assert noisy_clusters(scores, 0.6).tolist() == [4, 1, 3]


LINE = (0.0, 1.0, 2.0, 20.0, 21.0, 50.0, 51.0, 54.0, 55.0, 90.0, 94.0)
STARTUP = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, -1, -1])


def test_correction_numbers_whole_clusters_first() -> None:
    labels, dissolved = correct_labels(line(*LINE), STARTUP, np.array([2, 0]), 1.0, 2)
    assert labels.tolist() == [1, 1, 1, 0, 0, 2, 2, 3, 3, -1, -1]
    assert dissolved.size == 0


@pytest.mark.parametrize(
    ("keep", "expected"),
    [(False, [-1, -1, -1, 0, 0, 1, 1, 2, 2, -1, -1]), (True, [0, 0, 0, 1, 1, 2, 2, 3, 3, -1, -1])],
)
def test_dissolved_cluster_is_dropped_or_kept_whole(keep: bool, expected: list[int]) -> None:
    positions = (0.0, 1.5, 3.0, *LINE[3:])
    labels, dissolved = correct_labels(line(*positions), STARTUP, np.array([0, 2]), 1.0, 2, keep)
    assert labels.tolist() == expected
    assert dissolved.tolist() == [0]


def test_correction_looks_at_a_cluster_by_itself() -> None:
    # Sample 2 has its third neighbour in the other cluster, so that alone it is not core.
    labels, _ = correct_labels(line(0.0, 3.0, 4.0, 5.0), np.array([0, 0, 0, 1]), np.array([0]), 1.0, 3)
    assert labels.tolist() == [-1, -1, -1, 0]


def test_correction_of_nothing_changes_nothing() -> None:
    labels, _ = correct_labels(line(*LINE), STARTUP, np.array([], dtype=np.int64), 1.0, 2)
    np.testing.assert_array_equal(labels, STARTUP)
