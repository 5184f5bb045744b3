"""Labels of a stage that several workers share are those of one, to the last bit."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from clustering_cases import Case, make_case, threads, tiny_blocks
from shared_workers import by_workers

from nplp.clustering import PseudoLabels, build_constraints, estimate_pseudo_labels
from nplp.clustering.settings import DISTANCES
from nplp.clustering.sweep import euclidean, smallest


def estimate(case: Case, options: dict[str, Any]) -> PseudoLabels:
    return estimate_pseudo_labels(case.features, case.camera_ids, **options)


def assert_same_for_all(case: Case, options: dict[str, Any], workers: int) -> PseudoLabels:
    """Assert that all workers get what one process gets by itself, and return it."""
    with threads(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = estimate(case, options)
        shared = by_workers(workers, lambda: estimate(case, options))
    assert len(shared) == workers
    for found in shared:
        for name, value in vars(alone).items():
            other = getattr(found, name)
            if isinstance(value, np.ndarray):
                assert value.dtype == other.dtype, name
                np.testing.assert_array_equal(other, value, err_msg=name, strict=True)
            else:
                assert other == value, name
    return alone


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("workers", [2, 3])
def test_labels_do_not_depend_on_the_number_of_workers(distance, workers):
    case = make_case(7, 301, 24, 4, "blobs")
    options = {"distance": distance, "alpha": 0.05, "k1": 12, "also_at": [0.3], "noisy_fraction": 0.4}
    found = assert_same_for_all(case, options, workers)
    assert found.num_clusters > 3
    assert len(found.noisy_clusters)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("kind", ["blobs", "equal", "grid", "mixed_norms"])
def test_with_tiny_blocks_and_budgets_too(distance, kind):
    """Pairs and values are then too many to be held, and many workers have no tile at all."""
    case = make_case(3, 37, 5, 3, kind)
    with tiny_blocks():
        assert_same_for_all(case, {"distance": distance, "alpha": 0.1, "k1": 6, "k2": 3}, 4)


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("distance", DISTANCES)
def test_more_workers_than_samples(distance, count):
    case = Case(np.arange(2.0 * count, dtype=np.float32).reshape(count, 2) ** 2, np.arange(count) % 2)
    assert_same_for_all(case, {"distance": distance, "min_samples": 2, "alpha": 0.5}, 7)


@pytest.mark.parametrize(
    "options",
    [
        {"distance": "euclidean", "alpha": None},
        {"alpha": None},
        {"distance": "euclidean", "assessment_distance": "jaccard"},
        {"assessment_distance": "euclidean"},
        {"correction_distance": "euclidean"},
        {"correction_distance": "camera_jaccard"},
        {"giant_share": 0.2, "alpha": 0.3},
        {"distance": "euclidean", "giant_share": 0.2, "alpha": 0.3},
        {"epsilon_pairs": "all", "distance": "relative_jaccard", "alpha": 0.01},
        {"epsilon_pairs": "all", "distance": "euclidean", "alpha": 0.01},
        {"camera_centering": True, "camera_scaling": True},
        {"reclustered_outliers": "rejoin", "noisy_fraction": 0.5, "beta": 0.9},
        {"distance": "euclidean", "epsilon": 2.0, "correct": False},
    ],
    ids=str,
)
def test_every_path_of_the_stage_is_shared(options):
    case = make_case(11, 150, 8, 3, "blobs")
    assert_same_for_all(case, {"k1": 8, **options}, 2)


def test_clusters_without_a_radius_are_the_same():
    pytest.importorskip("infomap")
    case = make_case(11, 150, 8, 3, "blobs")
    assert_same_for_all(case, {"k1": 8, "clusterer": "infomap", "correct": False, "epsilon": 1.0}, 3)


def test_constraints_are_kept_by_all_workers():
    case = make_case(5, 120, 8, 3, "blobs")
    constraints = build_constraints(120, tracks=np.repeat(np.arange(40), 3), cannot=[(0, 60)])
    found = assert_same_for_all(case, {"k1": 8, "constraints": constraints}, 2)
    assert found.changes is not None


@pytest.mark.parametrize("bound", [0.0, 0.5])
def test_values_below_the_bracket_are_added_up_the_same(monkeypatch, bound):
    """Many pairs averaged: those surely near are added up from products, tile by tile."""
    monkeypatch.setattr(smallest, "_MIN_VALUES", 400)
    monkeypatch.setattr(smallest, "_VALUES_PER_SAMPLE", 0)
    monkeypatch.setattr(euclidean, "_SAMPLED_PAIRS", 4000)
    case = make_case(2, 220, 16, 3, "uniform", offset=bound)
    found = assert_same_for_all(case, {"distance": "euclidean", "alpha": 0.3}, 3)
    assert found.averaged_pairs > 1000


def test_an_error_of_one_is_an_error_of_all():
    case = make_case(7, 30, 4, 1, "blobs")
    with pytest.raises(Exception, match="camera"):
        by_workers(2, lambda: estimate(case, {"distance": "camera_jaccard"}))
