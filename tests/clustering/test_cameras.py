"""Camera entropies and the weights by them, against counts in a loop and cases by hand."""

import math
from collections import Counter

import numpy as np
import pytest

from nplp.clustering import camera_entropies, camera_entropy_weights, cross_camera_share


def naive_entropy(cameras):
    shares = [count / len(cameras) for count in Counter(cameras).values()]
    return -sum(share * math.log2(share) for share in shares)


def test_entropies_are_those_of_the_histograms():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.r_[np.arange(9), rng.integers(-1, 9, 200)])
    cameras = rng.integers(0, 5, len(labels))
    expected = [naive_entropy(cameras[labels == cluster].tolist()) for cluster in range(9)]
    np.testing.assert_allclose(camera_entropies(labels, cameras), expected, rtol=1e-12)
    weights = np.array([math.exp(entropy) for entropy in expected])
    np.testing.assert_allclose(camera_entropy_weights(labels, cameras), weights / weights.mean(), rtol=1e-12)


def test_two_cameras_by_hand():
    # One camera; two, half each; an outlier of a third camera counts nowhere.
    labels, cameras = np.array([0, 0, 1, 1, -1]), np.array([4, 4, 4, 7, 9])
    assert camera_entropies(labels, cameras).tolist() == [0.0, 1.0]
    weights = camera_entropy_weights(labels, cameras)
    assert weights[0] > 0
    assert weights[1] / weights[0] == pytest.approx(math.e)
    assert weights.mean() == pytest.approx(1)


def test_clusters_of_one_camera_each_weigh_the_same():
    weights = camera_entropy_weights(np.array([0, 0, 1, 2, 2]), np.zeros(5, dtype=np.int64))
    assert weights.tolist() == [1.0, 1.0, 1.0]


def test_without_a_cluster_there_is_no_weight():
    assert len(camera_entropy_weights(np.full(3, -1), np.arange(3))) == 0


def test_the_share_of_pairs_across_cameras_is_that_of_all_pairs_counted():
    rng = np.random.default_rng(1)
    labels, cameras = rng.integers(-1, 4, 50), rng.integers(0, 3, 50)
    pairs = [
        cameras[i] != cameras[j]
        for i in range(50)
        for j in range(i)
        if labels[i] == labels[j] and labels[i] >= 0
    ]
    assert cross_camera_share(labels, cameras) == pytest.approx(np.mean(pairs), abs=1e-15)
    assert cross_camera_share(np.arange(3), np.arange(3)) == 0
    assert cross_camera_share(np.full(3, -1), np.arange(3)) == 0
