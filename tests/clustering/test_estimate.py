"""The whole stage against the oracle, and its options."""

from __future__ import annotations

import warnings

import clustering_oracle as oracle
import numpy as np
import pytest
import torch
from clustering_cases import Case, cases, make_case, tiny_blocks
from hypothesis import given, settings
from hypothesis import strategies as st

from nplp.clustering import PseudoLabels, estimate_pseudo_labels

options = st.fixed_dictionaries(
    {
        "alpha": st.sampled_from([0.0012, 0.01, 0.05, 0.2, 1.0]),
        "beta": st.sampled_from([0.5, 0.8, 1.0]),
        "min_samples": st.integers(1, 5),
        "noisy_fraction": st.sampled_from([0.1, 0.5, 1.0]),
    }
)


def estimate_quietly(features: np.ndarray, camera_ids: np.ndarray | None, **chosen: object) -> PseudoLabels:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return estimate_pseudo_labels(features, camera_ids, **chosen)


def assert_matches(result: PseudoLabels, expected: oracle.Expected) -> None:
    assert result.epsilon_e == pytest.approx(expected.epsilon, rel=1e-6, abs=1e-12)
    np.testing.assert_array_equal(result.startup_labels, expected.startup_labels)
    np.testing.assert_allclose(result.self_assessment, expected.scores, atol=1e-5)
    np.testing.assert_array_equal(result.noisy_clusters, expected.noisy)
    np.testing.assert_array_equal(result.labels, expected.labels)


@given(cases(), options, st.booleans(), st.booleans(), st.booleans())
@settings(max_examples=80, deadline=None)
def test_euclidean_stage_is_the_oracles(
    case: Case, chosen: dict, keep: bool, rejoin: bool, tiny: bool
) -> None:
    words = {
        "dissolved": "keep" if keep else "drop",
        "reclustered_outliers": "rejoin" if rejoin else "drop",
    }
    with tiny_blocks(tiny):
        result = estimate_quietly(case.features, case.camera_ids, distance="euclidean", **words, **chosen)
    matrix = oracle.euclidean_matrix(case.features)
    assert_matches(result, oracle.estimate(matrix, case.camera_ids, keep=keep, rejoined=rejoin, **chosen))


@given(
    cases(),
    options,
    st.sampled_from([(20, 6), (5, 3), (1, 1), (4, 1), (3, 9)]),
    st.sampled_from(["drop", "rejoin"]),
    st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_jaccard_stage_is_the_oracles(
    case: Case, chosen: dict, k: tuple[int, int], outliers: str, tiny: bool
) -> None:
    words = {"k1": k[0], "k2": k[1], "reclustered_outliers": outliers}
    with tiny_blocks(tiny):
        result = estimate_quietly(case.features, case.camera_ids, **words, **chosen)
    matrix = oracle.jaccard_matrix(case.features, *k)
    rejoined = outliers == "rejoin"
    assert_matches(result, oracle.estimate(matrix, case.camera_ids, rejoined=rejoined, **chosen))


@pytest.mark.parametrize("distance", ["jaccard", "euclidean"])
@pytest.mark.parametrize("assessed_by", ["jaccard", "euclidean"])
@pytest.mark.parametrize("centring", [False, True])
def test_assessment_distance_and_camera_centring(distance: str, assessed_by: str, centring: bool) -> None:
    case = make_case(3, count=60, dimension=5, cameras=4, kind="blobs")
    features = case.features + 2.0 * case.camera_ids[:, None].astype(np.float32)
    result = estimate_pseudo_labels(
        features,
        case.camera_ids,
        alpha=0.05,
        distance=distance,
        assessment_distance=assessed_by,
        camera_centering=centring,
        noisy_fraction=0.4,
    )
    seen = oracle.centred(features, case.camera_ids) if centring else features
    matrix, assessed = oracle.distance_matrix(seen, distance), oracle.distance_matrix(seen, assessed_by)
    expected = oracle.estimate(matrix, case.camera_ids, alpha=0.05, noisy_fraction=0.4, assessed=assessed)
    assert expected.startup_labels.max() >= 2
    assert_matches(result, expected)


@pytest.mark.parametrize("again", ["euclidean", "camera_jaccard"])
@pytest.mark.parametrize("beta", [0.5, 0.6])
def test_noisy_clusters_are_clustered_again_by_another_distance(again: str, beta: float) -> None:
    case = make_case(3, count=90, dimension=5, cameras=3, kind="blobs")
    chosen = {"alpha": 0.1, "beta": beta, "noisy_fraction": 0.6, "min_samples": 2}
    result = estimate_pseudo_labels(case.features, case.camera_ids, correction_distance=again, **chosen)
    matrix = oracle.jaccard_matrix(case.features, 20, 6)
    other = oracle.euclidean_matrix(case.features)
    if again == "camera_jaccard":
        other = oracle.camera_jaccard_matrix(case.features, case.camera_ids)
    assert_matches(result, oracle.estimate(matrix, case.camera_ids, corrected=other, **chosen))
    radius = beta * oracle.smallest_mean(other, case.camera_ids, 0.1)
    assert result.epsilon_c == pytest.approx(radius, rel=1e-6)
    both = estimate_pseudo_labels(
        case.features, case.camera_ids, assessment_distance=again, correction_distance=again, **chosen
    )
    assert_matches(both, oracle.estimate(matrix, case.camera_ids, assessed=other, corrected=other, **chosen))
    usual = estimate_pseudo_labels(case.features, case.camera_ids, **chosen)
    assert not np.array_equal(result.labels, usual.labels)
    np.testing.assert_array_equal(result.startup_labels, usual.startup_labels)
    np.testing.assert_array_equal(result.self_assessment, usual.self_assessment)


@pytest.mark.parametrize("distance", ["jaccard", "euclidean"])
def test_without_correction_labels_are_those_of_the_startup_stage(distance: str) -> None:
    case = make_case(0, count=50, dimension=4, cameras=3, kind="blobs")
    with_it, without = (
        estimate_pseudo_labels(case.features, case.camera_ids, alpha=0.05, distance=distance, correct=correct)
        for correct in (True, False)
    )
    np.testing.assert_array_equal(with_it.startup_labels, without.startup_labels)
    np.testing.assert_array_equal(without.labels, without.startup_labels)
    assert without.self_assessment.size == without.noisy_clusters.size == 0
    assert without.epsilon_c == 0.5 * without.epsilon_e
    assert without.labels is not without.startup_labels


@pytest.mark.parametrize("camera_ids", [None, np.zeros(40, dtype=np.int64)])
def test_without_two_cameras_all_pairs_count_with_one_warning(camera_ids: np.ndarray | None) -> None:
    case = make_case(1, count=40, dimension=3, cameras=1, kind="uniform")
    with pytest.warns(UserWarning, match="averaged over pairs of all images") as caught:
        result = estimate_pseudo_labels(
            case.features, camera_ids, alpha=0.1, distance="euclidean", camera_centering=True
        )
    assert [warning.filename for warning in caught] == [__file__]
    assert result.pairs == 40 * 39 // 2
    assert result.averaged_pairs == 78
    assert_matches(result, oracle.estimate(oracle.euclidean_matrix(case.features), None, alpha=0.1))


def test_given_epsilon_takes_the_place_of_equation_4() -> None:
    case = make_case(2, count=40, dimension=3, cameras=3, kind="uniform")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = estimate_pseudo_labels(case.features, None, distance="euclidean", epsilon=0.3)
    assert (result.epsilon_e, result.epsilon_c) == (0.3, 0.15)
    assert (result.pairs, result.averaged_pairs) == (0, 0)
    expected = oracle.dbscan_labels(oracle.euclidean_matrix(case.features), 0.3, 4)
    np.testing.assert_array_equal(result.startup_labels, expected)


@pytest.mark.parametrize(("min_samples", "label"), [(4, 0), (41, -1)])
def test_jaccard_radius_of_1_reaches_every_pair(min_samples: int, label: int) -> None:
    case = make_case(2, count=40, dimension=3, cameras=3, kind="uniform")
    result = estimate_pseudo_labels(
        case.features, case.camera_ids, epsilon=1.0, beta=1.0, min_samples=min_samples, k1=3
    )
    np.testing.assert_array_equal(result.startup_labels, label)
    np.testing.assert_array_equal(result.labels, label)


def test_cameras_that_share_no_neighbour_have_radius_1() -> None:
    features = np.concatenate([np.eye(6, 3) * 0.1, np.eye(6, 3) * 0.1 + 100]).astype(np.float32)
    result = estimate_pseudo_labels(features, np.repeat([0, 1], 6), k1=4, k2=2)
    assert result.epsilon_e == 1.0
    np.testing.assert_array_equal(result.startup_labels, 0)


@pytest.mark.parametrize("distance", ["jaccard", "euclidean"])
def test_two_images_are_enough(distance: str) -> None:
    features = np.array([[0.0, 1.0], [2.0, 1.0]], dtype=np.float32)
    result = estimate_pseudo_labels(features, [0, 1], distance=distance)
    np.testing.assert_array_equal(result.labels, [-1, -1])
    assert result.self_assessment.size == 0
    together = estimate_pseudo_labels(features, [0, 1], distance=distance, min_samples=1, beta=1.0)
    np.testing.assert_array_equal(together.labels, [0, 0])


@pytest.mark.parametrize("distance", ["jaccard", "euclidean"])
def test_form_of_the_input_does_not_matter(distance: str) -> None:
    case = make_case(5, count=48, dimension=6, cameras=3, kind="blobs")
    usual = estimate_pseudo_labels(case.features, case.camera_ids, alpha=0.05, distance=distance)
    forms = [
        (torch.from_numpy(case.features).requires_grad_(), torch.from_numpy(case.camera_ids)),
        (case.features.astype(np.float64), case.camera_ids.tolist()),
        (np.asfortranarray(case.features), case.camera_ids.astype(np.uint8)),
        (case.features[::-1][::-1], (case.camera_ids + 7).astype(np.int32)),
    ]
    for features, camera_ids in forms:
        result = estimate_pseudo_labels(features, camera_ids, alpha=0.05, distance=distance)
        np.testing.assert_array_equal(result.labels, usual.labels)
        assert result.epsilon_e == usual.epsilon_e


def test_arguments_are_not_changed() -> None:
    case = make_case(6, count=30, dimension=6, cameras=3, kind="blobs")
    features, camera_ids = case.features.copy(), case.camera_ids.copy()
    features.flags.writeable = camera_ids.flags.writeable = False
    estimate_pseudo_labels(features, camera_ids, camera_centering=True)
    np.testing.assert_array_equal(features, case.features)


def test_progress_is_silent_where_no_one_looks(capfd: pytest.CaptureFixture[str]) -> None:
    case = make_case(7, count=30, dimension=6, cameras=3, kind="blobs")
    for shown in (False, True):
        estimate_pseudo_labels(case.features, case.camera_ids, progress=shown)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("epsilon", "label"), [(1.0, 0), (np.nextafter(1.0, 0), -1)])
@pytest.mark.parametrize("tiny", [False, True])
def test_pairs_at_the_radius_itself_are_within_it(epsilon: float, label: int, tiny: bool) -> None:
    features = np.stack(np.meshgrid(range(5), range(4)), axis=-1).reshape(-1, 2) + 1000.0
    with tiny_blocks(tiny):
        result = estimate_pseudo_labels(features, None, distance="euclidean", epsilon=epsilon, min_samples=3)
    np.testing.assert_array_equal(result.startup_labels, label)


def test_all_pairs_equally_far_are_within_their_mean() -> None:
    # The rounding of a mean could put epsilon below the very distance that it is the mean of.
    features = 0.1 * np.eye(30)
    cameras = np.arange(30) % 3
    for alpha in (0.001, 0.1, 1.0):
        result = estimate_pseudo_labels(features, cameras, alpha=alpha, distance="euclidean")
        assert result.epsilon_e == np.sqrt(0.1**2 + 0.1**2)
        np.testing.assert_array_equal(result.startup_labels, 0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("distance", ["jaccard", "euclidean"])
def test_gpu_gives_the_cpus_labels(distance: str) -> None:
    case = make_case(8, count=600, dimension=32, cameras=5, kind="blobs")
    on_cpu, on_gpu = (
        estimate_pseudo_labels(
            torch.from_numpy(case.features).to(device), case.camera_ids, alpha=0.02, distance=distance
        )
        for device in ("cpu", "cuda")
    )
    np.testing.assert_array_equal(on_gpu.labels, on_cpu.labels)
    assert on_gpu.epsilon_e == pytest.approx(on_cpu.epsilon_e, rel=1e-6)
