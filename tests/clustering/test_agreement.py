"""The agreement of two clusterings against scikit-learn, with outliers as clusters of one."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from nplp.clustering import label_agreement


def alone(labels):
    """Return labels in which each outlier has a number of its own."""
    return [f"outlier {place}" if label == -1 else str(label) for place, label in enumerate(labels)]


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_adjusted_rand_index(seed):
    rng = np.random.default_rng(seed)
    before = rng.integers(-1, 6, 120)
    labels = np.where(rng.random(120) < 0.2, rng.integers(-1, 9, 120), before)
    expected = adjusted_rand_score(alone(labels), alone(before))
    assert label_agreement(labels, before) == pytest.approx(expected, abs=1e-12)
    assert label_agreement(before, labels) == pytest.approx(expected, abs=1e-12)


def test_numbers_of_clusters_do_not_matter_and_the_arguments_stay():
    before = np.array([0, 0, 1, 1, -1])
    assert label_agreement(np.array([1, 1, 0, 0, -1]), before) == 1.0
    assert before.tolist() == [0, 0, 1, 1, -1]


def test_an_image_that_leaves_its_cluster_is_a_change():
    assert label_agreement(np.array([0, 0, -1, 1, 1]), np.array([0, 0, 0, 1, 1])) < 1


def test_all_outliers_twice_agree():
    assert label_agreement(np.full(4, -1), np.full(4, -1)) == 1.0
