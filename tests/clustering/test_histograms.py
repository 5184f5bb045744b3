"""Histograms of distances against counting every pair."""

import numpy as np
import pytest
from clustering_oracle import camera_jaccard_matrix, jaccard_matrix, scaled_by_camera

from nplp.clustering.histograms import distance_histogram


def domain(count=60, seed=0):
    rng = np.random.default_rng(seed)
    people = rng.integers(0, 6, count)
    features = (rng.normal(size=(6, 8))[people] + 0.4 * rng.normal(size=(count, 8))).astype(np.float32)
    return features, rng.integers(0, 3, count), people


def counted(distances, cameras, people, limit, bins):
    counts, beyond = np.zeros((2, 2, bins), int), np.zeros((2, 2), int)
    for i in range(len(people)):
        for j in range(i + 1, len(people)):
            group = int(people[i] == people[j]), int(cameras[i] == cameras[j])
            if distances[i, j] >= limit:
                beyond[group] += 1
            else:
                counts[group][min(int(distances[i, j] / limit * bins), bins - 1)] += 1
    return counts, beyond


def test_jaccard_counts_every_pair_once():
    features, cameras, people = domain()
    found = distance_histogram(features, cameras, people, k1=8, k2=3, bins=20)
    distances = jaccard_matrix(features, 8, 3)
    counts, beyond = counted(distances, cameras, people, 1.0, 20)
    # A distance on the limit of two bins may be rounded to either.
    assert np.abs(found.counts - counts).sum() <= 4
    np.testing.assert_array_equal(found.counts.sum(axis=2) + found.beyond, counts.sum(axis=2) + beyond)
    assert found.edges[[0, -1]].tolist() == [0, 1]


def test_euclidean_counts_every_pair_once():
    features, cameras, people = domain()
    found = distance_histogram(features, cameras, people, distance="euclidean", bins=20)
    distances = np.linalg.norm(features[:, None].astype(float) - features[None], axis=2)
    counts, _ = counted(distances, cameras, people, found.edges[-1], 20)
    assert np.abs(found.counts - counts).sum() <= 4
    assert found.counts.sum() == 60 * 59 // 2
    assert found.beyond.sum() == 0


@pytest.mark.parametrize("distance", ["jaccard", "euclidean"])
def test_without_identities_pairs_differ_by_camera_alone(distance):
    features, cameras, people = domain()
    known = distance_histogram(features, cameras, people, distance=distance, k1=8, k2=3)
    unknown = distance_histogram(features, cameras, None, distance=distance, k1=8, k2=3)
    np.testing.assert_array_equal(unknown.counts[0], known.counts.sum(axis=0))
    np.testing.assert_array_equal(unknown.beyond[0], known.beyond.sum(axis=0))
    assert unknown.counts[1].sum() == unknown.beyond[1].sum() == 0


def test_many_samples_are_thinned_out_for_euclidean_distances():
    features = np.random.default_rng(0).normal(size=(5000, 2)).astype(np.float32)
    found = distance_histogram(features, np.zeros(5000, int), None, distance="euclidean")
    assert found.counts.sum() == 4000 * 3999 // 2


@pytest.mark.parametrize("distance", ["jaccard", "euclidean"])
def test_centring_takes_what_a_camera_adds(distance):
    features, cameras, people = domain(300)
    shifted = features + 5 * np.eye(8, dtype=np.float32)[cameras]
    options = {"distance": distance, "k1": 8, "k2": 3, "camera_centering": True}
    plain = distance_histogram(features, cameras, people, **options)
    moved = distance_histogram(shifted, cameras, people, **options)
    assert np.abs(plain.counts.sum(axis=2) - moved.counts.sum(axis=2)).sum() <= 10


def test_camera_jaccard_counts_every_pair_once():
    features, cameras, people = domain()
    found = distance_histogram(
        features, cameras, people, distance="camera_jaccard", k1_intra=3, k1_inter=6, k2_intra=2, k2_inter=3
    )
    counts, beyond = counted(camera_jaccard_matrix(features, cameras, 3, 6, 2, 3), cameras, people, 1.0, 50)
    assert np.abs(found.counts - counts).sum() <= 4
    np.testing.assert_array_equal(found.counts.sum(axis=2) + found.beyond, counts.sum(axis=2) + beyond)


@pytest.mark.parametrize("distance", ["jaccard", "camera_jaccard", "euclidean"])
def test_scaled_features_are_those_of_the_equation(distance):
    features, cameras, people = domain(100)
    options = {"distance": distance, "k1": 8, "k2": 3}
    found = distance_histogram(
        features, cameras, people, **options, camera_centering=True, camera_scaling=True
    )
    by_hand = distance_histogram(scaled_by_camera(features, cameras), cameras, people, **options)
    assert np.abs(found.counts - by_hand.counts).sum() <= 10
    np.testing.assert_allclose(found.edges, by_hand.edges, rtol=1e-5)
