"""The nearest samples of each sample and the distance of its farthest, against all distances."""

import numpy as np
import pytest

from nplp.clustering.sweep import FeatureRows, nearest_and_farthest, nearest_neighbours


def rows_of(features):
    return FeatureRows.prepared(features, None, False, False, None)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    ("count", "dim", "scale"), [(2, 3, 1.0), (50, 8, 1.0), (700, 16, 30.0), (1500, 4, 1e-3)]
)
def test_both_are_those_of_all_distances(count, dim, scale, half):
    features = (scale * np.random.default_rng(count).normal(size=(count, dim))).astype(np.float32)
    rows = rows_of(features)
    nearest, farthest = nearest_and_farthest(rows, 5, half=half)
    wide = features.astype(np.float64)
    squared = ((wide[:, None] - wide[None]) ** 2).sum(axis=2)
    assert np.allclose(farthest, squared.max(axis=1), rtol=1e-12)
    assert np.array_equal(nearest, nearest_neighbours(rows, 5, half=half))


def test_samples_that_are_all_alike_have_no_farthest():
    nearest, farthest = nearest_and_farthest(rows_of(np.ones((40, 3), np.float32)), 4)
    assert not farthest.any()
    assert nearest.shape == (40, 4)


def test_one_far_sample_is_everyone_s_farthest():
    features = np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32)
    features[123] += 100
    farthest = nearest_and_farthest(rows_of(features), 3)[1]
    expected = ((features.astype(np.float64) - features[123].astype(np.float64)) ** 2).sum(axis=1)
    others = np.arange(300) != 123
    assert np.allclose(farthest[others], expected[others], rtol=1e-12)
