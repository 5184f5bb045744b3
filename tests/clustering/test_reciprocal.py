"""k-reciprocal encoding on sparse rows against plain sets."""

from __future__ import annotations

from itertools import pairwise

import clustering_oracle as oracle
import numpy as np
import pytest
import torch
from clustering_cases import KINDS, Case, cases, make_case, rows_on, threads, tiny_blocks
from hypothesis import given, settings
from hypothesis import strategies as st

from nplp.clustering.reciprocal import SparseRows, reciprocal_encoding
from nplp.clustering.sweep.features import FeatureRows

NEIGHBOURS = [(20, 6), (5, 3), (7, 1), (1, 1), (2, 9), (3, 2), (30, 30), (70, 6)]


def encoding_of(features: np.ndarray, k1: int, k2: int, **options: object) -> SparseRows:
    return reciprocal_encoding(FeatureRows.plain(features), k1, k2, **options)


def dense(rows: SparseRows) -> np.ndarray:
    matrix = np.zeros((len(rows), len(rows)))
    for row, (start, stop) in enumerate(pairwise(rows.starts)):
        matrix[row, rows.columns[start:stop]] = rows.weights[start:stop]
    return matrix


@given(cases(), st.sampled_from(NEIGHBOURS), st.booleans())
@settings(max_examples=80, deadline=None)
def test_weights_are_the_oracles_with_ties_too(case: Case, k: tuple[int, int], tiny: bool) -> None:
    with tiny_blocks(tiny):
        weights = dense(encoding_of(case.features, *k))
    np.testing.assert_allclose(weights, oracle.jaccard_weights(case.features, *k), atol=1e-10)


@given(cases(), st.sampled_from(NEIGHBOURS), st.booleans())
@settings(max_examples=40, deadline=None)
def test_rows_are_sound(case: Case, k: tuple[int, int], tiny: bool) -> None:
    with tiny_blocks(tiny):
        rows = encoding_of(case.features, *k)
    assert rows.starts[0] == 0
    assert rows.starts[-1] == len(rows.columns) == len(rows.weights)
    assert (rows.starts.dtype, rows.columns.dtype, rows.weights.dtype) == (np.int64, np.int32, np.float64)
    assert len(rows) == len(case.features)
    for start, stop in pairwise(rows.starts):
        assert (np.diff(rows.columns[start:stop]) > 0).all()
        assert stop == start or rows.weights[start:stop].sum() == pytest.approx(1, rel=1e-12)
    assert (rows.weights >= 0).all()


def test_encoding_hand_computed() -> None:
    # Two pairs far apart, each sample's two nearest being its pair: the weights are a softmax over it.
    features = np.array([[0.0], [1.0], [50.0], [52.0]])
    one, four = 1 / (1 + np.exp(-1.0)), 1 / (1 + np.exp(-4.0))
    expected = [[one, 1 - one, 0, 0], [1 - one, one, 0, 0], [0, 0, four, 1 - four], [0, 0, 1 - four, four]]
    np.testing.assert_allclose(dense(encoding_of(features, 2, 1)), expected, atol=1e-15)
    averaged = dense(encoding_of(features, 2, 2))
    np.testing.assert_allclose(averaged, np.kron(np.eye(2), np.full((2, 2), 0.5)), atol=1e-15)


def test_two_thirds_of_a_half_size_set_do_not_join() -> None:
    features = np.array([[0.0], [1.0], [2.1], [3.3], [4.6]])
    ranks = oracle.neighbour_ranks(features, 4)
    assert ranks.tolist() == [[0, 1, 2, 3], [1, 0, 2, 3], [2, 1, 3, 0], [3, 2, 4, 1], [4, 3, 2, 1]]
    weights = dense(encoding_of(features, 4, 1))
    # Half-size sets R' are over three neighbours. R'(2) = {1, 2, 3} has two thirds in R(0).
    assert np.flatnonzero(weights[0]).tolist() == [0, 1, 2]
    # R'(3) = {2, 3, 4} has two thirds in R(2).
    assert np.flatnonzero(weights[2]).tolist() == [0, 1, 2, 3]
    # R'(1) = {0, 1, 2} has two thirds in R(3).
    assert np.flatnonzero(weights[3]).tolist() == [1, 2, 3, 4]
    # R'(3) = {2, 3, 4} has two thirds in R(4).
    assert np.flatnonzero(weights[4]).tolist() == [3, 4]


def test_set_grows_beyond_two_thirds() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(80, 2))
    ranks = oracle.neighbour_ranks(features, 12)
    base, expanded = oracle.reciprocal_sets(ranks), oracle.expanded_sets(ranks, 12)
    grown = sum(len(expanded[i]) > len(base[i]) for i in range(80))
    assert grown > 20
    rows = encoding_of(features, 12, 1)
    assert [rows.columns[start:stop].tolist() for start, stop in pairwise(rows.starts)] == expanded


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("k2", [1, 4])
def test_blocks_threads_and_devices_change_no_bit(kind: str, k2: int) -> None:
    features = make_case(1, count=90, dimension=9, cameras=1, kind=kind).features
    usual = encoding_of(features, 7, k2)
    for number, device in ((1, None), (3, None), (2, torch.device("cpu"))):
        with tiny_blocks(), threads(number):
            other = reciprocal_encoding(rows_on(device, features), 7, k2)
        for name in ("starts", "columns", "weights"):
            np.testing.assert_array_equal(getattr(other, name), getattr(usual, name), err_msg=name)


def test_row_without_a_reciprocal_neighbour_is_empty() -> None:
    # The last duplicates are not among the two nearest of any sample, themselves included.
    rows = encoding_of(np.ones((5, 3)), 2, 1)
    assert np.diff(rows.starts).tolist() == [2, 2, 0, 0, 0]
    averaged = encoding_of(np.ones((5, 3)), 2, 2)
    np.testing.assert_array_equal(dense(averaged)[:, :2], 0.5)
