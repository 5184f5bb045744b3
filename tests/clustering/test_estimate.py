"""The whole stage against the oracle, and its options."""

from __future__ import annotations

import warnings

import clustering_oracle as oracle
import numpy as np
import pytest
import torch
from clustering_cases import Case, cases, make_case
from hypothesis import given, settings
from hypothesis import strategies as st

from nplp.clustering import PseudoLabels, estimate_pseudo_labels


def estimate_quietly(features: np.ndarray, camera_ids: np.ndarray | None, **options: object) -> PseudoLabels:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return estimate_pseudo_labels(features, camera_ids, **options)


def assert_matches(result: PseudoLabels, expected: oracle.Expected, scale: float = 1.0) -> None:
    assert result.epsilon_e == pytest.approx(expected.epsilon, rel=1e-6, abs=1e-12 * scale)
    np.testing.assert_array_equal(result.startup_labels, expected.startup_labels)
    np.testing.assert_allclose(result.self_assessment, expected.scores, atol=1e-5)
    np.testing.assert_array_equal(result.noisy_clusters, expected.noisy)
    np.testing.assert_array_equal(result.labels, expected.labels)


options = st.fixed_dictionaries(
    {
        "alpha": st.sampled_from([0.0012, 0.01, 0.05, 0.2, 1.0]),
        "beta": st.sampled_from([0.5, 0.8, 1.0]),
        "min_samples": st.integers(1, 5),
        "noisy_fraction": st.sampled_from([0.1, 0.5, 1.0]),
    }
)


@given(cases(), options, st.booleans())
@settings(max_examples=60, deadline=None)
def test_euclidean_stage_is_the_oracles(case: Case, chosen: dict[str, float], keep: bool) -> None:
    result = estimate_quietly(
        case.features,
        case.camera_ids,
        distance="euclidean",
        dissolved="keep" if keep else "drop",
        **chosen,
    )
    matrix = oracle.euclidean_matrix(case.features)
    assert_matches(result, oracle.estimate(matrix, case.camera_ids, keep=keep, **chosen))


@given(cases(), options, st.sampled_from([(20, 6), (5, 3), (1, 1), (4, 1), (3, 9)]))
@settings(max_examples=60, deadline=None)
def test_jaccard_stage_is_the_oracles(case: Case, chosen: dict[str, float], k: tuple[int, int]) -> None:
    result = estimate_quietly(case.features, case.camera_ids, k1=k[0], k2=k[1], **chosen)
    matrix = oracle.jaccard_matrix(case.features, *k)
    assert_matches(result, oracle.estimate(matrix, case.camera_ids, **chosen))
