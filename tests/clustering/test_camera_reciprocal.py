"""Camera-aware k-reciprocal encoding against the equations on full matrices."""

from __future__ import annotations

from itertools import pairwise

import clustering_oracle as oracle
import numpy as np
import pytest
import torch
from clustering_cases import KINDS, Case, cases, make_case, rows_on, threads, tiny_blocks
from hypothesis import given, settings
from hypothesis import strategies as st

from nplp.clustering import estimate_pseudo_labels
from nplp.clustering.camera_reciprocal import camera_reciprocal_encoding
from nplp.clustering.jaccard import jaccard_distances
from nplp.clustering.reciprocal import SparseRows
from nplp.clustering.sweep.features import FeatureRows
from nplp.errors import UserError

SIZES = [(5, 20, 2, 4), (3, 6, 3, 3), (1, 1, 1, 1), (2, 3, 1, 0), (4, 2, 9, 9), (70, 70, 3, 2)]


def encoding_of(case: Case, sizes: tuple[int, ...]) -> SparseRows:
    return camera_reciprocal_encoding(FeatureRows.plain(case.features), case.camera_ids, *sizes)


def dense(rows: SparseRows) -> np.ndarray:
    matrix = np.zeros((len(rows), len(rows)))
    for row, (start, stop) in enumerate(pairwise(rows.starts)):
        matrix[row, rows.columns[start:stop]] = rows.weights[start:stop]
    return matrix


def with_two_cameras(case: Case) -> Case:
    camera_ids = case.camera_ids.copy()
    camera_ids[0] = camera_ids[-1] + 1
    return Case(case.features, camera_ids)


@given(cases(), st.sampled_from(SIZES), st.booleans())
@settings(max_examples=80, deadline=None)
def test_weights_are_the_oracles_with_ties_too(case: Case, sizes: tuple[int, ...], tiny: bool) -> None:
    case = with_two_cameras(case)
    with tiny_blocks(tiny):
        rows = encoding_of(case, sizes)
    expected = oracle.camera_jaccard_weights(case.features, case.camera_ids, *sizes)
    np.testing.assert_allclose(dense(rows), expected, atol=1e-10)
    np.testing.assert_allclose(dense(rows).sum(axis=1), 1, rtol=1e-12)
    for start, stop in pairwise(rows.starts):
        assert (np.diff(rows.columns[start:stop]) > 0).all()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_blocks_threads_and_devices_change_no_bit(kind: str) -> None:
    case = with_two_cameras(make_case(1, count=90, dimension=9, cameras=4, kind=kind))
    usual = encoding_of(case, (5, 8, 2, 4))
    expected = oracle.camera_jaccard_weights(case.features, case.camera_ids, 5, 8, 2, 4)
    np.testing.assert_allclose(dense(usual), expected, atol=1e-10)
    for number, device in ((1, None), (3, None), (2, torch.device("cpu"))):
        with tiny_blocks(), threads(number):
            rows = rows_on(device, case.features)
            other = camera_reciprocal_encoding(rows, case.camera_ids, 5, 8, 2, 4)
        for name in ("starts", "columns", "weights"):
            np.testing.assert_array_equal(getattr(other, name), getattr(usual, name), err_msg=name)


def test_encoding_hand_computed() -> None:
    # Cameras 0 and 1 see two people each, at 0 and at 10; 3 is a second image of the first in camera 1.
    features = np.array([[0.0], [10.0], [1.0], [0.5], [11.0]])
    camera_ids = np.array([0, 0, 1, 1, 1])
    weights = dense(encoding_of(Case(features, camera_ids), (1, 1, 1, 0)))
    # A: {0, 1}, {1, 0}, {2, 3}, {3, 2}, {4, 2}. B: {3, 2}, {4, 2}, {0, 1}, {0, 1}, {1, 0}.
    mutual = [[0, 1, 3, 2], [1, 0, 4, 2], [2, 3, 0, 1], [3, 2, 0], [4, 1]]
    for i, members in enumerate(mutual):
        near = np.exp(-((features[members, 0] - features[i, 0]) ** 2))
        expected = np.zeros(5)
        expected[members] = near / near.sum()
        np.testing.assert_allclose(weights[i], expected, atol=1e-15)
    averaged = dense(encoding_of(Case(features, camera_ids), (1, 1, 2, 1)))
    np.testing.assert_allclose(averaged[4], weights[[4, 2, 1]].mean(axis=0), atol=1e-15)


def test_copies_in_a_camera_are_in_their_own_sets() -> None:
    case = Case(np.ones((40, 3)), np.arange(40) % 2)
    rows = encoding_of(case, (2, 2, 1, 0))
    weights = dense(rows)
    assert (np.diag(weights) > 0).all()
    np.testing.assert_allclose(weights, oracle.camera_jaccard_weights(*vars(case).values(), 2, 2, 1, 0))


def test_a_camera_of_one_image_takes_its_neighbours_elsewhere() -> None:
    features = np.array([[0.0], [0.1], [0.2], [5.0], [0.05]])
    camera_ids = np.array([0, 0, 0, 0, 7])
    weights = dense(encoding_of(Case(features, camera_ids), (2, 1, 2, 1)))
    expected = oracle.camera_jaccard_weights(features, camera_ids, 2, 1, 2, 1)
    np.testing.assert_allclose(weights, expected, atol=1e-15)
    # Of four images, two are nearest to the lonely one; the mean is over it and the nearer of them.
    assert np.flatnonzero(weights[4]).tolist() == [0, 1, 2, 4]


@pytest.mark.parametrize("correct", [False, True])
@pytest.mark.parametrize("centering", [False, True])
def test_labels_are_those_of_the_matrix(correct: bool, centering: bool) -> None:
    case = make_case(3, count=150, dimension=16, cameras=3, kind="blobs")
    features = case.features + 2 * np.eye(16, dtype=np.float32)[case.camera_ids]
    result = estimate_pseudo_labels(
        features, case.camera_ids, alpha=0.05, distance="camera_jaccard", camera_centering=centering,
        correct=correct, k1_inter=8,
    )  # fmt: skip
    seen = oracle.centred(features, case.camera_ids) if centering else features
    matrix = oracle.camera_jaccard_matrix(seen, case.camera_ids, 5, 8, 2, 4)
    epsilon = oracle.smallest_mean(matrix, case.camera_ids, 0.05)
    assert result.epsilon_e == pytest.approx(epsilon, rel=1e-9)
    np.testing.assert_array_equal(result.startup_labels, oracle.dbscan_labels(matrix, result.epsilon_e, 4))
    assert result.num_startup_clusters > 3
    assert len(result.noisy_clusters) == (
        0 if not correct else max(1, round(result.num_startup_clusters / 10))
    )


def test_assessment_takes_the_distance_too() -> None:
    case = make_case(4, count=120, dimension=8, cameras=3, kind="blobs")
    scores = {
        name: estimate_pseudo_labels(
            case.features, case.camera_ids, alpha=0.05, assessment_distance=name
        ).self_assessment
        for name in ("jaccard", "camera_jaccard")
    }
    assert scores["jaccard"].shape == scores["camera_jaccard"].shape
    assert not np.allclose(scores["jaccard"], scores["camera_jaccard"])


@pytest.mark.parametrize("cameras", [None, np.full(30, 4)])
def test_fewer_than_two_cameras_are_an_error_that_names_the_way_out(cameras: np.ndarray | None) -> None:
    features = np.random.default_rng(0).normal(size=(30, 4))
    seen = "camera_ids, got None" if cameras is None else "got camera 4 alone"
    with pytest.raises(UserError, match=f"{seen}: .*take distance jaccard"):
        estimate_pseudo_labels(features, cameras, distance="camera_jaccard")


def test_distances_of_the_rows_are_those_of_the_equations() -> None:
    case = make_case(5, count=80, dimension=6, cameras=3, kind="unit_norm")
    distances = jaccard_distances(encoding_of(case, (5, 20, 2, 4)))
    expected = oracle.camera_jaccard_matrix(case.features, case.camera_ids)
    found = np.ones((80, 80))

    def keep(first: np.ndarray, second: np.ndarray, distance: np.ndarray) -> None:
        found[first, second] = distance

    distances.visit_pairs(keep)
    upper = np.triu_indices(80, 1)
    np.testing.assert_allclose(found[upper], expected[upper], atol=1e-9)
