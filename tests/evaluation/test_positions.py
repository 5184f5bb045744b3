"""Positions that are counted are those that a sort gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nplp.evaluation import positions
from nplp.evaluation.positions import match_positions
from nplp.evaluation.protocol import check_labels


def assert_same(distances, labels):
    expected = positions._sorted_positions(distances, labels)
    for found, wanted in zip(match_positions(distances, labels), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


@given(
    seed=st.integers(0, 2**32 - 1),
    queries=st.integers(1, 40),
    gallery=st.integers(0, 60),
    identities=st.integers(1, 6),
    ties=st.booleans(),
    kind=st.sampled_from(["f4", "f8", "f2", "i4"]),
)
@settings(max_examples=150, deadline=None)
def test_a_sort_agrees(random_case, seed, queries, gallery, identities, ties, kind):
    distances, *vectors = random_case(seed, queries, gallery, identities, 3, ties)
    assert_same((distances * 3).astype(kind), check_labels(*vectors))


def test_only_rows_with_ties_between_people_are_sorted(monkeypatch):
    rows = []
    by_sort = positions._sorted_positions
    monkeypatch.setattr(
        positions, "_sorted_positions", lambda part, labels: rows.append(part) or by_sort(part, labels)
    )
    labels = check_labels([1, 1, 1], [1, 1, 2, 1], [0, 0, 0], [1, 1, 1, 0])
    # Ties of two matches, of a match and another person, and of a match and a removed image.
    distances = np.array([[0.2, 0.2, 0.3, 0.1], [0.2, 0.4, 0.2, 0.1], [0.1, 0.3, 0.2, 0.1]])
    found = match_positions(distances, labels)
    np.testing.assert_array_equal(np.concatenate(rows), distances[1:2])
    np.testing.assert_array_equal(found[0], [0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(found[1][[0, 1, 4, 5]], [0, 1, 0, 2])


@pytest.mark.parametrize("most", [0, 1, 3])
def test_people_of_many_images_are_sorted_with_the_same_result(random_case, monkeypatch, most):
    monkeypatch.setattr(positions, "MOST_COUNTED", most)
    distances, *vectors = random_case(1, 30, 50, 8, 2)
    assert_same(distances, check_labels(*vectors))


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_distances_that_are_not_finite_fall_as_in_a_sort(random_case, value):
    distances, *vectors = random_case(2, 20, 40, 5, 2)
    distances[np.random.default_rng(0).random(distances.shape) < 0.1] = value
    assert_same(distances, check_labels(*vectors))
