"""Radii without giant clusters, against a naive search with scikit-learn."""

from itertools import combinations

import numpy as np
import pytest
from clustering_cases import cases, tiny_blocks
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import DBSCAN

from nplp.clustering import estimate_pseudo_labels, giants, jaccard
from nplp.clustering.assessment import all_equal
from nplp.clustering.dbscan import cluster
from nplp.clustering.giants import cluster_without_giants, is_giant
from nplp.clustering.jaccard import jaccard_distances
from nplp.clustering.reciprocal import reciprocal_encoding
from nplp.clustering.sweep import euclidean
from nplp.clustering.sweep.euclidean import EuclideanDistances
from nplp.clustering.sweep.features import FeatureRows

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


def step_by_step(found, epsilon, min_samples, share):
    """Every radius in turn, a tenth lower each time, as the rule is worded."""
    for step in range(89):
        radius = epsilon * 0.9**step
        labels = cluster(found, radius, min_samples)
        if not is_giant(labels, share).any():
            return labels, radius, "lowered" if step else ""
        if not epsilon:
            break
    first = cluster(found, epsilon, min_samples)
    giant = np.flatnonzero(is_giant(first, share))
    kept = np.where(np.isin(first, giant), -1, first)
    numbers = {label: number for number, label in enumerate(sorted(set(kept) - {-1}))}
    return np.array([numbers.get(label, -1) for label in kept]), epsilon, "dropped"


@given(
    cases(smallest=4),
    st.floats(0, 1),
    st.integers(1, 6),
    st.sampled_from([0.05, 0.1, 0.3, 0.5, 1.0]),
    st.sampled_from(["euclidean", "jaccard"]),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_the_first_step_without_a_giant_is_found(case, place, min_samples, share, distance, tiny):
    rows = FeatureRows.plain(case.features)
    first, second = np.triu_indices(len(rows), 1)
    radii = np.sort(np.sqrt(rows.squared_distances(first, second)))
    with tiny_blocks(tiny):
        if distance == "euclidean":
            found, epsilon = EuclideanDistances(rows), float(radii[int(place * (len(radii) - 1))])
        else:
            found, epsilon = jaccard_distances(reciprocal_encoding(rows, 6, 3)), place
        labels, radius, done = cluster_without_giants(found, epsilon, min_samples, share)
        expected = step_by_step(found, epsilon, min_samples, share)
    assert (radius, done) == expected[1:]
    np.testing.assert_array_equal(labels, expected[0])


class Given:
    """Distances among 10 samples, of which a few are given and all others are far."""

    def __init__(self, given):
        self.given = given

    def __len__(self):
        return 10

    def all_within(self, epsilon):
        return False

    def visit_edges(self, epsilon, visit):
        near = np.array([pair for pair, distance in self.given.items() if distance <= epsilon], int)
        visit(*near.reshape(-1, 2).T)


def test_a_radius_below_which_there_is_a_giant_again_is_not_passed_over():
    # Clusters 0-3 and 4-8 and sample 9 on the border of the second; from 0.95 on it is on the border of the
    # first as well, whose it is then, and from 1.5 on all is one cluster. A giant has 6 samples.
    cliques = [combinations(range(4), 2), combinations(range(4, 9), 2)]
    near = dict.fromkeys((pair for clique in cliques for pair in clique), 0.1)
    found = Given(near | {(4, 9): 0.1, (0, 9): 0.95, (0, 4): 1.5})
    radii = [4 * 0.9**step for step in range(89)]
    has_giant = [is_giant(cluster(found, radius, 4), 0.6).any() for radius in radii]
    changes = np.flatnonzero(np.diff(has_giant)) + 1
    assert changes.tolist() == [10, 14, 36]
    labels, radius, done = cluster_without_giants(found, 4.0, 4, 0.6)
    assert (radius, done) == (radii[10], "lowered")
    assert labels.tolist() == [0] * 4 + [1] * 5 + [0]
    # With 0.95 out of reach from the start, only the end of the cluster is without a giant.
    labels, radius, done = cluster_without_giants(found, radii[14], 4, 0.6)
    assert (radius, done) == (pytest.approx(radii[36]), "lowered")
    assert (labels == -1).all()


@pytest.fixture
def sweeps(monkeypatch):
    """The passes over all pairs that were made, by name."""
    made = []
    sweep, pairs = euclidean.sweep, jaccard._pairs_below_one

    def counted(start, *rest):
        if start == 0:
            made.append("jaccard")
        return pairs(start, *rest)

    monkeypatch.setattr(euclidean, "sweep", lambda *args: made.append("euclidean") or sweep(*args))
    monkeypatch.setattr(jaccard, "_pairs_below_one", counted)
    return made


def dense(count=300, seed=0):
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.uniform(0.5, 1, size=(count, 1)), axis=0).astype(np.float32) * np.ones(3, "f4")


@pytest.mark.parametrize("lowest", [3, 20, 60])
def test_many_steps_in_a_dense_graph_take_few_passes(monkeypatch, sweeps, lowest):
    # Nothing fits but the pairs of very small radii, and the chain breaks below the step between neighbours.
    monkeypatch.setattr("nplp.clustering.sweep.pairs._MIN_PAIRS", 4000)
    monkeypatch.setattr("nplp.clustering.sweep.pairs._PAIRS_PER_SAMPLE", 0)
    features = dense()
    epsilon = 1.5 / 0.9**lowest
    labels, radius, done = cluster_without_giants(distances(features), epsilon, 2, 0.3)
    made = len(sweeps)
    assert done == "lowered"
    expected = step_by_step(distances(features), epsilon, 2, 0.3)
    assert radius == expected[1]
    np.testing.assert_array_equal(labels, expected[0])
    # Two for each of some twice the logarithm of the steps; the rule as it is worded takes two for each step.
    assert made <= 2 * (2 * np.log2(lowest) + 3)


def test_a_giant_that_no_radius_breaks_up_takes_few_passes(monkeypatch, sweeps):
    monkeypatch.setattr("nplp.clustering.sweep.pairs._MIN_PAIRS", 4000)
    monkeypatch.setattr("nplp.clustering.sweep.pairs._PAIRS_PER_SAMPLE", 0)
    assert cluster_without_giants(distances(np.ones((200, 3), "f4")), 1.0, 4, 0.3)[2] == "dropped"
    # The steps 0, 1, 2, 4, 8 and so on to 88.
    assert len(sweeps) == 18


def test_once_the_pairs_fit_lower_radii_need_no_pass(sweeps):
    features = dense()
    found = distances(features)
    cluster_without_giants(found, 300.0, 2, 0.3)
    assert len(sweeps) == 1
    found.visit_edges(0.5, lambda first, second: None)
    assert len(sweeps) == 1


def test_jaccard_pairs_are_held_at_a_radius_at_which_they_fit(monkeypatch, sweeps):
    monkeypatch.setattr("nplp.clustering.sweep.pairs._MIN_PAIRS", 300)
    monkeypatch.setattr("nplp.clustering.sweep.pairs._PAIRS_PER_SAMPLE", 0)
    rows = FeatureRows.plain(dense(200))
    found = jaccard_distances(reciprocal_encoding(rows, 10, 3))
    wide, narrow = [], []
    found.visit_edges(0.9, lambda first, second: wide.append(len(first)))
    assert sum(wide) > 300
    found.visit_edges(0.5, lambda first, second: narrow.append(len(first)))
    assert 0 < sum(narrow) <= 300
    assert len(sweeps) == 2
    for radius in (0.5, 0.2, 0.0):
        cluster(found, radius, 2)
    assert len(sweeps) == 2
    cluster(found, 0.9, 2)
    assert len(sweeps) == 4
    # What is held at the lower radius is kept meanwhile.
    cluster(found, 0.5, 2)
    assert len(sweeps) == 4


def test_the_search_tries_each_step_once(monkeypatch):
    tried = []
    real = giants.cluster_and_cores
    monkeypatch.setattr(giants, "cluster_and_cores", lambda *args: tried.append(args[1]) or real(*args))
    cluster_without_giants(distances(dense()), 1.5 / 0.9**37, 2, 0.3)
    assert len(tried) == len(set(tried)) <= 14
