"""Which clusters are noisy must not depend on how sums of distances were made."""

from __future__ import annotations

import clustering_oracle as oracle
import numpy as np
import pytest
from clustering_cases import Case, cases, threads, tiny_blocks
from hypothesis import given, settings
from hypothesis import strategies as st

from nplp.clustering.assessment import assess, score_weights, self_assessment
from nplp.clustering.jaccard import jaccard_distances
from nplp.clustering.reciprocal import reciprocal_encoding
from nplp.clustering.sweep import EdgeVisitor
from nplp.clustering.sweep.euclidean import EuclideanDistances
from nplp.clustering.sweep.features import FeatureRows

LABELS = np.array([0, 0, 1, 1, 2, 2, 3, 3, -1])
# Sums within a cluster of two are a, those outside it six times b: a score is 1 - a / b.
INNER = np.array([0.5, 0.5 + 1e-6, 0.5 + 3e-6, 0.2])


class Approximate:
    """Nine samples whose cluster sums are a little off, where exact ones are known too."""

    def __init__(self, off: list[float], sums_are_exact: bool = False) -> None:
        self.sums_are_exact = sums_are_exact
        self.asked: list[list[int]] = []
        self._off = np.array(off)

    def __len__(self) -> int:
        return len(LABELS)

    def cluster_sums(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._sums(labels, INNER + self._off)

    def exact_cluster_sums(self, labels: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.asked.append(members.tolist())
        own, total = self._sums(labels, INNER)
        return own[members], total[members]

    def mean_of_smallest(self, camera_ids: np.ndarray | None, count: int) -> float:
        raise AssertionError("not asked for")

    def visit_edges(self, epsilon: float, visit: EdgeVisitor) -> None:
        raise AssertionError("not asked for")

    def all_within(self, epsilon: float) -> bool:
        raise AssertionError("not asked for")

    def _sums(self, labels: np.ndarray, inner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        own = np.where(labels >= 0, inner[labels], 0.0)
        return own, np.where(labels >= 0, own + 6.0, 0.0)


@pytest.mark.parametrize("off", [[0, 0, 0, 0], [4e-6, 0, -4e-6, 0], [0, 4e-6, 0, 1e-6]])
def test_near_scores_are_settled_by_exact_sums(off: list[float]) -> None:
    distances = Approximate(off)
    scores, noisy = assess(distances, LABELS, 0.25)
    # Cluster 2 has the lowest score, by 2e-6; cluster 3 is far from it and is not looked at again.
    assert noisy.tolist() == [2]
    np.testing.assert_allclose(scores[:3], 1 - INNER[:3], rtol=0, atol=1e-15)
    assert distances.asked == [[0, 1, 2, 3, 4, 5]]


@pytest.mark.parametrize(("fraction", "expected"), [(0.5, [2, 1]), (0.75, [2, 1, 0])])
def test_order_of_settled_clusters_is_exact(fraction: float, expected: list[int]) -> None:
    assert assess(Approximate([4e-6, 0, -4e-6, 0]), LABELS, fraction)[1].tolist() == expected


def test_sums_that_are_exact_are_not_made_again() -> None:
    distances = Approximate([4e-6, 0, -4e-6, 0], sums_are_exact=True)
    assert assess(distances, LABELS, 0.25)[1].tolist() == [0]
    assert distances.asked == []


def test_scores_far_from_the_last_noisy_one_are_not_settled() -> None:
    distances = Approximate([0, 0.1, 0.2, 0])
    assert assess(distances, LABELS, 0.25)[1].tolist() == [2]
    assert distances.asked == []


@pytest.mark.parametrize("labels", [[-1] * 9, [0] * 9, [0, 0, 0, -1, -1, -1, -1, -1, -1]])
def test_nothing_to_settle_without_two_clusters(labels: list[int]) -> None:
    distances = Approximate([0, 0, 0, 0])
    scores, noisy = assess(distances, np.array(labels), 0.1)
    np.testing.assert_array_equal(scores, np.zeros(max(labels) + 1))
    assert noisy.size == 0
    assert distances.asked == []


def without_gaps(labels: np.ndarray) -> np.ndarray:
    return np.where(labels < 0, -1, np.searchsorted(np.unique(labels[labels >= 0]), labels))


@given(cases(smallest=4), st.integers(0, 2**32 - 1), st.booleans(), st.booleans(), st.booleans())
@settings(max_examples=80, deadline=None)
def test_scores_are_the_oracles(case: Case, seed: int, jaccard: bool, swept: bool, tiny: bool) -> None:
    labels = without_gaps(np.random.default_rng(seed).integers(-1, 4, size=len(case.features)))
    rows = FeatureRows.plain(case.features)
    with tiny_blocks(tiny), threads(2):
        if jaccard:
            distances = jaccard_distances(reciprocal_encoding(rows, 6, 3))
        else:
            distances = EuclideanDistances(rows, keep_sums=True)
        if swept:
            distances.mean_of_smallest(None, 3)
        scores = self_assessment(distances, labels)
        assessed, noisy = assess(distances, labels, 0.4)
    matrix = oracle.jaccard_matrix(case.features, 6, 3) if jaccard else oracle.euclidean_matrix(case.features)
    expected = oracle.scores(matrix, labels)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    np.testing.assert_allclose(assessed, expected, atol=1e-5)
    lowest = oracle.lowest_scores(expected, 0.4)
    assert len(noisy) == len(lowest)
    # Noisy or not is settled but for ties of the rounding of float64 sums.
    np.testing.assert_allclose(np.sort(expected[noisy]), np.sort(expected[lowest]), atol=2e-9)


def test_weights_by_scores_are_relative_to_their_mean_over_the_clusters() -> None:
    startup = np.array([0, 0, 1, 1, 2, 2, 2, 2, -1])
    # Cluster 1 is dropped, cluster 2 becomes two.
    labels = np.array([0, 0, -1, -1, 1, 1, 2, 2, -1])
    weights = score_weights(np.array([0.6, 0.1, -0.2]), startup, labels)
    np.testing.assert_allclose(weights, np.array([1.6, 0.8, 0.8]) * 3 / 3.2)


@pytest.mark.parametrize("scores", [[-1.0, -1.0], []])
def test_without_a_score_above_the_lowest_all_clusters_count_alike(scores: list[float]) -> None:
    startup = np.array([0, 1, -1])[: len(scores) + 1] if scores else np.array([-1])
    np.testing.assert_array_equal(score_weights(np.array(scores), startup, startup), np.ones(len(scores)))
