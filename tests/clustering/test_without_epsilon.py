"""HDBSCAN and Infomap on the nearest of each sample."""

import numpy as np
import pytest
from sklearn.cluster import HDBSCAN
from sklearn.metrics import adjusted_rand_score

from nplp.clustering import estimate_pseudo_labels
from nplp.clustering.sweep import SparseDistances
from nplp.clustering.without_epsilon import cluster_without_epsilon, nearest_graph

for library in ("fast_hdbscan", "infomap"):
    pytest.importorskip(library)


def given(dense):
    """Return the distances of a symmetric matrix [N, N], handed over in small blocks from last to first."""
    first, second = (part[::-1] for part in np.triu_indices(len(dense), 1))

    def find(sink, shares):
        assert shares.count == 1
        for start in range(0, len(first), 7):
            i, j = first[start : start + 7], second[start : start + 7]
            near = (dense[i, j] < 1) & (dense[i, j] <= sink.bound)
            sink.add(i[near].astype(np.int32), j[near].astype(np.int32), dense[i, j][near])

    return SparseDistances(len(dense), find)


def groups(sizes, spread, seed):
    """Return distances below 1 [N, N] among points around some centres, and each one's centre [N]."""
    rng = np.random.default_rng(seed)
    centre = np.repeat(np.arange(len(sizes)), sizes)
    points = rng.normal(size=(len(sizes), 3))[centre] + spread * rng.normal(size=(len(centre), 3))
    dense = np.linalg.norm(points[:, None] - points[None], axis=2)
    return 0.99 * dense / dense.max(), centre


def test_the_nearest_of_each_are_those_of_a_sort():
    rng = np.random.default_rng(0)
    dense = np.round(rng.random((23, 23)), 1)  # many ties
    dense = np.minimum(dense, dense.T)
    graph = nearest_graph(given(dense), 4)
    for row in range(len(dense)):
        others = [(dense[row, j], j) for j in range(len(dense)) if j != row and dense[row, j] < 1]
        held = graph.indices[graph.indptr[row] : graph.indptr[row + 1]]
        values = graph.data[graph.indptr[row] : graph.indptr[row + 1]]
        assert list(zip(values, held, strict=True)) == sorted(others)[:4]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("min_samples", [2, 4])
def test_hdbscan_is_scikit_learns_where_the_graph_is_complete(seed, min_samples):
    dense, _ = groups([9, 12, 7, 15, 4], 0.25, seed)
    theirs = HDBSCAN(
        min_samples=min_samples, min_cluster_size=min_samples, metric="precomputed", copy=True
    ).fit_predict(dense)
    ours = cluster_without_epsilon(given(dense), "hdbscan", min_samples)
    assert theirs.max() >= 1
    assert adjusted_rand_score(theirs, ours) == 1.0
    assert ((theirs < 0) == (ours < 0)).all()


@pytest.mark.parametrize("clusterer", ["hdbscan", "infomap"])
def test_communities_that_share_nothing_are_found_and_numbered_by_their_first(clusterer):
    dense, centre = groups([8, 6, 11], 0.05, seed=1)
    dense[centre[:, None] != centre] = 1.0
    order = np.random.default_rng(2).permutation(len(dense))
    dense, centre = dense[np.ix_(order, order)], centre[order]
    labels = cluster_without_epsilon(given(dense), clusterer, 4)
    assert adjusted_rand_score(centre, labels) == 1.0
    firsts = [np.flatnonzero(labels == label)[0] for label in range(3)]
    assert firsts == sorted(firsts)
    assert (cluster_without_epsilon(given(dense), clusterer, 4) == labels).all()


@pytest.mark.parametrize("clusterer", ["hdbscan", "infomap"])
def test_who_has_too_few_near_is_an_outlier(clusterer):
    dense, centre = groups([8, 3, 9], 0.05, seed=1)
    dense[centre[:, None] != centre] = 1.0
    labels = cluster_without_epsilon(given(dense), clusterer, 4)
    assert (labels[centre == 1] == -1).all()
    assert labels.max() == 1
    alone = np.ones((5, 5))
    assert (cluster_without_epsilon(given(alone), clusterer, 4) == -1).all()


@pytest.mark.parametrize("clusterer", ["hdbscan", "infomap"])
def test_the_stage_takes_them(clusterer):
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(6), 12)
    features = (rng.normal(size=(6, 16))[person] + 0.2 * rng.normal(size=(72, 16))).astype(np.float32)
    options = {"epsilon": 1.0, "k1": 10, "k2": 3, "clusterer": clusterer}
    result = estimate_pseudo_labels(features, person % 2, correct=False, **options)
    assert adjusted_rand_score(person, result.labels) > 0.9


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"clusterer": "kmeans"}, "clusterer must be one of"),
        ({"distance": "euclidean"}, "needs a Jaccard distance"),
        ({"correct": True}, "needs correct False"),
        ({"epsilon": None}, "needs an epsilon"),
        ({"giant_share": 0.3}, "needs giant_share None"),
    ],
)
def test_what_does_not_go_together_is_named(options, reason):
    settings = {"clusterer": "hdbscan", "correct": False, "epsilon": 1.0, **options}
    with pytest.raises(ValueError, match=reason):
        estimate_pseudo_labels(np.eye(8, dtype=np.float32), None, **settings)
