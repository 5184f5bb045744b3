"""What correction made an outlier joins the sub-cluster of its cluster with the most neighbours."""

from __future__ import annotations

import clustering_oracle as oracle
import numpy as np
import pytest
from clustering_cases import Case, cases, threads, tiny_blocks
from hypothesis import given, settings
from hypothesis import strategies as st

from nplp.clustering.jaccard import jaccard_distances
from nplp.clustering.reciprocal import reciprocal_encoding
from nplp.clustering.rejoining import rejoin_outliers
from nplp.clustering.sweep.euclidean import EuclideanDistances
from nplp.clustering.sweep.features import FeatureRows


def on_a_line(*places: float) -> EuclideanDistances:
    return EuclideanDistances(FeatureRows.plain(np.array(places, np.float32)[:, None]))


def rejoin(distances, startup, labels, epsilon):
    found = rejoin_outliers(distances, np.array(startup), np.array(labels), epsilon)
    assert found.dtype == np.int64
    return found.tolist()


def test_the_most_neighbours_decide_and_not_the_nearest():
    distances = on_a_line(0.0, 0.1, 0.2, 1.0, 1.3)
    assert rejoin(distances, [0] * 5, [0, 0, 0, -1, 1], 1.0) == [0, 0, 0, 0, 1]
    assert rejoin(distances, [0] * 5, [0, 0, 0, -1, 1], 0.5) == [0, 0, 0, 1, 1]


def test_of_equally_many_the_first_sub_cluster():
    assert rejoin(on_a_line(0, 1, 2), [0, 0, 0], [1, -1, 0], 1.0) == [1, 0, 0]


def test_other_clusters_and_their_outliers_have_no_vote():
    distances = on_a_line(0.0, 0.1, 0.2, 0.3, 0.4)
    startup, labels = [0, 0, 1, 1, -1], [0, -1, 1, 1, -1]
    assert rejoin(distances, startup, labels, 1.0) == [0, 0, 1, 1, -1], "a startup outlier stays one"


def test_without_a_neighbour_or_a_sub_cluster_it_stays_an_outlier():
    assert rejoin(on_a_line(0, 1, 9), [0, 0, 0], [0, 0, -1], 2.0) == [0, 0, -1]
    assert rejoin(on_a_line(0, 1, 9), [0, 0, 0], [-1, -1, -1], 9.0) == [-1, -1, -1]
    assert rejoin(on_a_line(0, 1, 9), [-1, -1, -1], [-1, -1, -1], 9.0) == [-1, -1, -1]


def test_what_was_given_is_left_as_it_is():
    startup, labels = np.zeros(3, dtype=np.int64), np.array([0, -1, 0])
    rejoin_outliers(on_a_line(0, 1, 2), startup, labels, 1.0)
    assert labels.tolist() == [0, -1, 0]


@given(cases(), st.integers(0, 2**32 - 1), st.floats(0, 1.2), st.booleans(), st.booleans())
@settings(max_examples=200, deadline=None)
def test_it_is_the_oracle(case: Case, seed: int, quantile: float, jaccard: bool, tiny: bool) -> None:
    rng = np.random.default_rng(seed)
    count = len(case.features)
    matrix = oracle.jaccard_matrix(case.features, 5, 3) if jaccard else oracle.euclidean_matrix(case.features)
    # Halfway between two distances, so that no rounding decides; above 1 all pairs of Jaccard are within.
    values = np.unique(np.round(matrix, 9))
    place = min(int(quantile * len(values)), len(values) - 1)
    epsilon = 1.2 if quantile > 1 else float(values[place : place + 2].mean()) + 1e-8
    startup = rng.integers(-1, 4, size=count)
    startup = np.where(startup < 0, -1, np.searchsorted(np.unique(startup[startup >= 0]), startup))
    parts = 3 * startup + rng.integers(0, 3, size=count)
    labels = np.where((startup >= 0) & (rng.random(count) < 0.6), parts, -1)
    labels = np.where(labels < 0, -1, np.searchsorted(np.unique(labels[labels >= 0]), labels))
    rows = FeatureRows.plain(case.features)
    distances = jaccard_distances(reciprocal_encoding(rows, 5, 3)) if jaccard else EuclideanDistances(rows)
    with tiny_blocks(tiny), threads(2):
        found = rejoin_outliers(distances, startup, labels, epsilon)
    np.testing.assert_array_equal(found, oracle.rejoin(matrix, startup, labels, epsilon))


@pytest.mark.parametrize("outliers", ["drop", "rejoin"])
def test_only_noisy_clusters_are_concerned(outliers: str) -> None:
    from nplp.clustering import estimate_pseudo_labels

    rng = np.random.default_rng(0)
    features = rng.normal(size=(8, 6))[rng.integers(0, 8, 160)] + 0.3 * rng.normal(size=(160, 6))
    cameras = rng.integers(0, 3, 160)
    found = estimate_pseudo_labels(
        features.astype(np.float32), cameras, alpha=0.1, beta=0.7, reclustered_outliers=outliers
    )
    whole = ~np.isin(found.startup_labels, found.noisy_clusters)
    assert ((found.labels[whole] < 0) == (found.startup_labels[whole] < 0)).all()
