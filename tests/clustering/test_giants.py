"""Radii without giant clusters, against a naive search with scikit-learn."""

import numpy as np
import pytest
from sklearn.cluster import DBSCAN

from nplp.clustering import estimate_pseudo_labels
from nplp.clustering.assessment import all_equal
from nplp.clustering.euclidean import EuclideanDistances
from nplp.clustering.features import FeatureRows
from nplp.clustering.giants import cluster_without_giants, is_giant

CAMERAS = np.arange(120) % 3


def blobs_on_a_chain(seed=0, chained=60):
    """Six tight people and a chain of points that a radius from 0.3 on joins."""
    rng = np.random.default_rng(seed)
    people = 10 * np.eye(6, 8)[np.arange(120 - chained) % 6] + 0.02 * rng.normal(size=(120 - chained, 8))
    chain = np.zeros((chained, 8))
    chain[:, 7] = np.sort(rng.uniform(0, 6, size=chained))
    return np.concatenate([people, chain]).astype(np.float32)


def distances(features):
    return EuclideanDistances(FeatureRows.plain(features))


def naive(features, epsilon, min_samples, share):
    """The first radius, a tenth lower each time, at which no cluster holds the share."""
    radius = epsilon
    while True:
        labels = DBSCAN(eps=radius, min_samples=min_samples).fit_predict(features.astype(np.float64))
        if all((labels == one).sum() < share * len(labels) for one in range(labels.max() + 1)):
            return labels, radius
        radius *= 0.9


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("epsilon", [1.0, 3.0, 50.0])
def test_the_radius_is_lowered_until_no_cluster_is_a_giant(seed, epsilon):
    features = blobs_on_a_chain(seed)
    labels, radius, done = cluster_without_giants(distances(features), epsilon, 4, 0.3)
    expected, expected_radius = naive(features, epsilon, 4, 0.3)
    assert done == "lowered"
    assert radius == pytest.approx(expected_radius)
    np.testing.assert_array_equal(labels, expected)


def test_without_a_giant_nothing_changes():
    features = blobs_on_a_chain(chained=0)
    labels, radius, done = cluster_without_giants(distances(features), 0.5, 4, 0.3)
    assert (labels.max() + 1, radius, done) == (6, 0.5, "")


@pytest.mark.parametrize("epsilon", [0.0, 0.5])
def test_duplicates_that_no_radius_breaks_up_become_outliers(epsilon):
    features = blobs_on_a_chain(chained=60)
    features[60:] = 3
    features[:60] = np.round(features[:60])
    labels, radius, done = cluster_without_giants(distances(features), epsilon, 4, 0.3)
    assert (radius, done) == (epsilon, "dropped")
    assert (labels[60:] == -1).all()
    assert sorted(set(labels[:60])) == list(range(6))


def test_one_cluster_of_all_has_no_labels_left():
    labels, _, done = cluster_without_giants(distances(np.ones((20, 4), np.float32)), 0.1, 4, 0.3)
    assert done == "dropped"
    assert (labels == -1).all()


def test_a_giant_holds_a_share_of_all_samples_not_of_the_clustered_ones():
    labels = np.array([0] * 3 + [1] * 2 + [-1] * 5)
    assert is_giant(labels, 0.3).tolist() == [True, False]
    assert is_giant(labels, 0.31).tolist() == [False, False]
    assert is_giant(np.full(4, -1), 0.3).tolist() == []


@pytest.mark.parametrize("distance", ["euclidean", "jaccard"])
def test_the_estimate_tells_both_radii(distance):
    features = blobs_on_a_chain()
    settings = {"alpha": 0.5, "distance": distance, "correct": False, "k1": 8}
    literal = estimate_pseudo_labels(features, CAMERAS, **settings)
    assert literal.largest_cluster_share > 0.3
    assert (literal.giant_clusters, literal.literal_epsilon) == ("", literal.epsilon_e)
    lowered = estimate_pseudo_labels(features, CAMERAS, **settings, giant_share=0.3)
    assert lowered.giant_clusters == "lowered"
    assert lowered.literal_epsilon == literal.epsilon_e > lowered.epsilon_e
    assert not is_giant(lowered.labels, 0.3).any()
    again = estimate_pseudo_labels(features, CAMERAS, **settings, epsilon=lowered.epsilon_e)
    np.testing.assert_array_equal(again.labels, lowered.labels)


@pytest.mark.parametrize("share", [0, -0.1, 1.5, "a"])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match="giant_share must be in"):
        estimate_pseudo_labels(blobs_on_a_chain(), CAMERAS, giant_share=share)


def test_equal_scores_have_no_order():
    assert all_equal(np.array([0.5, 0.5 + 1e-12]))
    assert not all_equal(np.array([0.5, 0.500001]))
    assert not all_equal(np.array([0.5]))
    assert not all_equal(np.empty(0))


def test_equal_scores_make_the_first_clusters_noisy_or_none():
    corners = np.repeat(np.eye(4, dtype=np.float32), 5, axis=0)
    settings = {"distance": "euclidean", "epsilon": 0.1, "noisy_fraction": 0.5}
    order = estimate_pseudo_labels(corners, np.arange(20) % 2, **settings)
    assert order.noisy_clusters.tolist() == [0, 1]
    skip = estimate_pseudo_labels(corners, np.arange(20) % 2, **settings, equal_scores="skip")
    assert skip.noisy_clusters.tolist() == []
    np.testing.assert_array_equal(skip.labels, skip.startup_labels)
