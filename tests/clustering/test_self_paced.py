"""The self-paced criterion against a transcription with N x N arrays, and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nplp.clustering import estimate_pseudo_labels, outliers_as_clusters, self_paced_labels
from nplp.clustering.self_paced import cluster_distances


def transcribed(labels, tight, loose, threshold):
    """Return the label of each image and the threshold, as the authors' code makes them."""
    count = labels.max() + 1
    names = [outliers_as_clusters(each) for each in (labels, tight, loose)]
    same = [each[:, None] == each[None, :] for each in names]
    r_comp, r_indep = (1 - (same[0] & other).sum(1) / (same[0] | other).sum(1) for other in same[1:])
    comp = [min(r_comp[labels == cluster]) for cluster in range(count)]
    indep = [min(r_indep[labels == cluster]) for cluster in range(count)]
    if threshold is None:
        threshold = sorted(indep)[min(count - 1, round(count * 0.9))]
    final, following = labels.copy(), count
    for image, label in enumerate(labels):
        if label >= 0 and indep[label] <= threshold and r_comp[image] <= comp[label]:
            continue
        final[image] = following
        following += 1
    return final, threshold


def as_pairs(labels):
    return labels[:, None] == labels[None, :]


@st.composite
def clusterings(draw):
    count = draw(st.integers(1, 24))
    made = []
    for _ in range(3):
        raw = np.array(draw(st.lists(st.integers(-1, 4), min_size=count, max_size=count)))
        inside = raw >= 0
        raw[inside] = np.unique(raw[inside], return_inverse=True)[1]
        made.append(raw.astype(np.int64))
    return made


@settings(max_examples=200, deadline=None)
@given(clusterings(), st.sampled_from([None, 0.0, 0.4]))
def test_labels_and_threshold_are_those_of_the_code_with_all_pairs(made, threshold):
    labels, tight, loose = made
    found = self_paced_labels(labels, tight, loose, threshold)
    if labels.max() < 0:
        assert found.threshold == threshold
        assert (found.labels == -1).all()
        return
    expected, chosen = transcribed(labels, tight, loose, threshold)
    assert found.threshold == chosen
    np.testing.assert_array_equal(as_pairs(outliers_as_clusters(found.labels)), as_pairs(expected))
    # Contiguous, and no cluster of one.
    counts = np.bincount(found.labels[found.labels >= 0], minlength=0)
    assert (counts > 1).all()


def test_a_cluster_that_grows_with_the_radius_is_given_up_and_one_that_shrinks_keeps_its_core():
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, -1])
    tight = np.array([0, 0, 0, -1, 1, 1, 1, 2, 2, -1])
    loose = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, -1])
    found = self_paced_labels(labels, tight, loose, threshold=0.3)
    assert found.labels.tolist() == [0, 0, 0, -1, -1, -1, -1, -1, -1, -1]
    assert (found.dependent, found.left, found.threshold) == (2, 1, 0.3)
    np.testing.assert_allclose(cluster_distances(labels, loose)[4:9], [0.4, 0.4, 0.4, 0.6, 0.6])


def test_further_radii_cluster_the_same_distances():
    rng = np.random.default_rng(0)
    features = np.repeat(rng.normal(size=(8, 6)), 6, axis=0) + 0.5 * rng.normal(size=(48, 6))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    cameras = np.arange(48) % 3
    options = {"correct": False, "k1": 10, "k2": 3}
    radii = (0.4, 0.5, 0.6)
    alone = [estimate_pseudo_labels(features, cameras, epsilon=radius, **options) for radius in radii]
    together = estimate_pseudo_labels(features, cameras, epsilon=0.5, also_at=(0.4, 0.6), **options)
    np.testing.assert_array_equal(together.labels, alone[1].labels)
    np.testing.assert_array_equal(together.also_labels, [alone[0].labels, alone[2].labels])
    assert alone[1].also_labels.shape == (0, 48)
    assert len({each.labels.tobytes() for each in alone}) == 3
    with pytest.raises(ValueError, match="epsilon must be a finite distance"):
        estimate_pseudo_labels(features, cameras, epsilon=0.5, also_at=(-1.0,), **options)
