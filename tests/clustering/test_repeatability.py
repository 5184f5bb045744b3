"""The result does not hang on threads, blocks, what can be held, or where the features lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from clustering_cases import labels_on, make_case, threads, tiny_blocks

from nplp.clustering import PseudoLabels, estimate_pseudo_labels
from nplp.clustering.settings import Settings
from nplp.clustering.sweep import pairs


def assert_identical(one: PseudoLabels, other: PseudoLabels) -> None:
    for name, value in vars(one).items():
        np.testing.assert_array_equal(getattr(other, name), value, err_msg=name)


@pytest.mark.parametrize("distance", ["jaccard", "euclidean"])
@pytest.mark.parametrize("centring", [False, True])
@pytest.mark.parametrize(
    ("kind", "count"), [("blobs", 200), ("blobs", 600), ("near_duplicates", 200), ("unit_norm", 200)]
)
def test_result_is_the_same_each_time_and_with_any_number_of_threads(
    distance: str, centring: bool, kind: str, count: int
) -> None:
    case = make_case(9, count=count, dimension=20, cameras=4, kind=kind)
    chosen = {"alpha": 0.02, "noisy_fraction": 0.4, "distance": distance, "camera_centering": centring}
    results = []
    for number in (1, 1, 2, 2, 3):
        with threads(number), tiny_blocks(number == 3):
            results.append(estimate_pseudo_labels(case.features, case.camera_ids, **chosen))
    assert_identical(results[1], results[0])
    assert_identical(results[3], results[2])
    for other in results[2:]:
        np.testing.assert_array_equal(other.labels, results[0].labels)
        np.testing.assert_array_equal(other.startup_labels, results[0].startup_labels)
        np.testing.assert_array_equal(np.sort(other.noisy_clusters), np.sort(results[0].noisy_clusters))
        assert other.epsilon_e == pytest.approx(results[0].epsilon_e, rel=1e-6)
    assert results[0].num_startup_clusters > 2


@pytest.mark.parametrize("distance", ["jaccard", "camera_jaccard", "euclidean"])
@pytest.mark.parametrize(("centring", "scaling"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("tiny", [False, True])
@pytest.mark.parametrize("kind", ["blobs", "near_duplicates", "mixed_norms"])
def test_device_finds_what_the_processor_finds(
    distance: str, centring: bool, scaling: bool, tiny: bool, kind: str
) -> None:
    # The kernels for devices, on the one device that every machine has.
    case = make_case(12, count=300, dimension=70, cameras=4, kind=kind, offset=10.0)
    settings = Settings(
        alpha=0.01,
        beta=0.5,
        min_samples=4,
        noisy_fraction=0.3,
        correct=True,
        distance=distance,
        assessment_distance=None,
        k1=20,
        k2=6,
        k1_intra=5,
        k1_inter=20,
        k2_intra=2,
        k2_inter=4,
        camera_centering=centring,
        camera_scaling=scaling,
        dissolved="drop",
        reclustered_outliers="drop",
        epsilon=None,
        giant_share=None,
        equal_scores="order",
    )
    results = []
    for device in (None, torch.device("cpu")):
        with tiny_blocks(tiny and device is not None):
            results.append(labels_on(device, case, settings))
    one, other = results
    np.testing.assert_array_equal(other.labels, one.labels)
    np.testing.assert_array_equal(other.startup_labels, one.startup_labels)
    np.testing.assert_array_equal(np.sort(other.noisy_clusters), np.sort(one.noisy_clusters))
    np.testing.assert_allclose(other.self_assessment, one.self_assessment, rtol=0, atol=1e-5)
    assert other.epsilon_e == pytest.approx(one.epsilon_e, rel=1e-6)
    assert one.num_startup_clusters > 0


@pytest.mark.parametrize("distance", ["jaccard", "euclidean"])
@pytest.mark.parametrize("assessed_by", ["jaccard", "euclidean"])
def test_pairs_that_cannot_be_held_are_found_again(
    monkeypatch: pytest.MonkeyPatch, distance: str, assessed_by: str
) -> None:
    case = make_case(10, count=150, dimension=8, cameras=3, kind="blobs")
    chosen = {"alpha": 0.05, "distance": distance, "assessment_distance": assessed_by}
    usual = estimate_pseudo_labels(case.features, case.camera_ids, **chosen)
    monkeypatch.setattr(pairs, "_MIN_PAIRS", 0)
    monkeypatch.setattr(pairs, "_PAIRS_PER_SAMPLE", 0)
    assert_identical(estimate_pseudo_labels(case.features, case.camera_ids, **chosen), usual)


@pytest.mark.parametrize("distance", ["jaccard", "euclidean"])
@pytest.mark.parametrize("centring", [False, True])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_mapped_and_read_only_features_are_as_good_as_others(
    tmp_path: Path, distance: str, centring: bool, kind: type
) -> None:
    case = make_case(11, count=60, dimension=6, cameras=3, kind="blobs")
    features = case.features.astype(kind)
    chosen = {"alpha": 0.05, "distance": distance, "camera_centering": centring}
    usual = estimate_pseudo_labels(features, case.camera_ids, **chosen)
    np.save(tmp_path / "features.npy", features)
    locked = features.copy()
    locked.flags.writeable = False
    for form in (locked, np.load(tmp_path / "features.npy", mmap_mode="r")):
        assert_identical(estimate_pseudo_labels(form, case.camera_ids, **chosen), usual)
