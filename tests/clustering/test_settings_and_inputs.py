"""Every wrong argument is named, with its rule and the value seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nplp.clustering import estimate_pseudo_labels
from nplp.clustering.inputs import as_features, as_integer_ids

FEATURES = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
CAMERAS = np.arange(12) % 3


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("alpha", 1.2, r"alpha must be in \(0, 1\], got 1.2"),
        ("alpha", 0.0, r"alpha must be in \(0, 1\], got 0.0"),
        ("alpha", float("nan"), r"alpha must be in \(0, 1\], got nan"),
        ("alpha", "0.1", r"alpha must be in \(0, 1\], got '0.1'"),
        ("beta", 1.01, r"beta must be in \(0, 1\]"),
        ("noisy_fraction", 0, r"noisy_fraction must be in \(0, 1\], got 0"),
        ("min_samples", 0, "min_samples must be an integer of at least 1, got 0"),
        ("min_samples", 4.0, "min_samples must be an integer of at least 1, got 4.0"),
        ("k1", 0, "k1 must be an integer of at least 1, got 0"),
        ("k2", -1, "k2 must be an integer of at least 1, got -1"),
        ("k2", True, "k2 must be an integer of at least 1, got True"),
        ("k1_intra", 0, "k1_intra must be an integer of at least 1, got 0"),
        ("k1_inter", 0, "k1_inter must be an integer of at least 1, got 0"),
        ("k2_intra", 0, "k2_intra must be an integer of at least 1, got 0"),
        ("k2_inter", -1, "k2_inter must be an integer of at least 0, got -1"),
        ("camera_scaling", True, "camera_scaling needs camera_centering, got False: turn it on"),
        (
            "distance",
            "cosine",
            "distance must be one of jaccard, euclidean, camera_jaccard, relative_jaccard, got 'cosine'",
        ),
        (
            "assessment_distance",
            "l1",
            "one of jaccard, euclidean, camera_jaccard, relative_jaccard, got 'l1'",
        ),
        ("correction_distance", "l1", "correction_distance must be one of jaccard, .*, got 'l1'"),
        ("dissolved", "merge", "dissolved must be one of drop, keep, got 'merge'"),
        ("epsilon", -0.1, "epsilon must be a finite distance of at least 0, or None, got -0.1"),
        ("epsilon", float("inf"), "epsilon must be a finite distance"),
    ],
)
def test_settings_out_of_range_are_named(option: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        estimate_pseudo_labels(FEATURES, CAMERAS, **{option: value})


def test_another_distance_of_correction_takes_no_radius_from_elsewhere() -> None:
    with pytest.raises(
        ValueError, match="correction_distance 'euclidean' takes its own radius .* epsilon 0.3"
    ):
        estimate_pseudo_labels(FEATURES, CAMERAS, correction_distance="euclidean", epsilon=0.3)
    estimate_pseudo_labels(FEATURES, CAMERAS, correction_distance="jaccard", epsilon=0.3)


@pytest.mark.parametrize("kind", [int, np.int32, np.int64])
def test_integers_of_numpy_are_integers(kind: type) -> None:
    result = estimate_pseudo_labels(FEATURES, CAMERAS, min_samples=kind(2), k1=kind(4), alpha=np.float32(0.5))
    assert len(result.labels) == 12


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (FEATURES[0], r"features must be of shape \[N, D\] with D >= 1, got \[3\]"),
        (FEATURES[:, :0], r"got \[12, 0\]"),
        (FEATURES[:1], "features must hold at least 2 images, got 1"),
        (FEATURES[:0], "features must hold at least 2 images, got 0"),
        (FEATURES.astype(complex), "features must be real numbers, got complex128"),
        (torch.ones(4, 2, dtype=torch.bool), "features must be real numbers, got bool"),
        (np.array([["a", "b"], ["c", "d"]]), "features must be real numbers"),
    ],
)
def test_features_of_wrong_form_are_named(features: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        estimate_pseudo_labels(features, CAMERAS)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_counted(value: float) -> None:
    features = FEATURES.copy()
    features[[5, 9], 1] = value
    with pytest.raises(ValueError, match="NaN or infinite values in 2 of 12 rows, the first of them row 5"):
        estimate_pseudo_labels(features, CAMERAS)


@pytest.mark.parametrize(
    ("camera_ids", "message"),
    [
        (CAMERAS[:-1], r"camera_ids must be of shape \[12\], one for each image, got \[11\]"),
        (CAMERAS[:, None], r"got \[12, 1\]"),
        (CAMERAS.astype(float), "camera_ids must be integers, got float64"),
        (["a"] * 12, "camera_ids must be integers"),
    ],
)
def test_camera_ids_of_wrong_form_are_named(camera_ids: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        estimate_pseudo_labels(FEATURES, camera_ids)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (torch.float16, np.float32),
        (torch.bfloat16, np.float32),
        (torch.float32, np.float32),
        (torch.float64, np.float64),
        (torch.int32, np.float64),
    ],
)
def test_tensor_types_are_kept_without_loss(given: torch.dtype, kept: type) -> None:
    tensor = torch.arange(8).reshape(4, 2).to(given)
    result = as_features(tensor)
    assert result.dtype == kept
    assert result.tolist() == tensor.tolist()


@pytest.mark.parametrize(
    ("given", "kept"), [("f2", "f4"), (">f4", "f4"), ("g", "f8"), ("i8", "f8"), ("u1", "f8")]
)
def test_array_types_are_kept_without_loss(given: str, kept: str) -> None:
    result = as_features(np.arange(8).reshape(4, 2).astype(given))
    assert result.dtype == np.dtype(kept)
    assert result.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_features_share_the_callers_memory() -> None:
    assert np.shares_memory(as_features(FEATURES), FEATURES)
    assert np.shares_memory(as_features(torch.from_numpy(FEATURES)), FEATURES)


def test_ids_become_int64() -> None:
    for ids in ([3, 1], np.array([3, 1], dtype=np.uint8), torch.tensor([3, 1], dtype=torch.int32)):
        result = as_integer_ids("ids", ids, 2)
        assert result.dtype == np.int64
        assert result.tolist() == [3, 1]
