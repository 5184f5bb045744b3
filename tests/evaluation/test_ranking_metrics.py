"""Ranking metrics against their definitions, and against fastreid's two implementations."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from fastreid.evaluation.rank import eval_market1501
from fastreid.utils.compute_dist import build_dist
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nplp.evaluation import (
    NoMatchError,
    Ranking,
    evaluate_features,
    evaluate_rank,
    queries_without_match,
    tiles,
)

SEEDS = st.integers(0, 2**32 - 1)
TOLERANCE = {"rtol": 0, "atol": 1e-6}


def oracle(distances, query_ids, gallery_ids, query_cameras, gallery_cameras, max_rank=50):
    """The definitions, read out one after the other."""
    max_rank = min(max_rank, distances.shape[1])
    curves, all_ap, all_inp = [], [], []
    for q in range(len(query_ids)):
        hits = [
            gallery_ids[g] == query_ids[q]
            for g in np.argsort(distances[q])
            if not (gallery_ids[g] == query_ids[q] and gallery_cameras[g] == query_cameras[q])
        ]
        if not any(hits):
            continue
        found = [rank for rank, hit in enumerate(hits, start=1) if hit]
        curves.append([float(found[0] <= rank) for rank in range(1, max_rank + 1)])
        all_ap.append(np.mean([(n + 1) / rank for n, rank in enumerate(found)]))
        all_inp.append(len(found) / found[-1])
    return np.mean(curves, axis=0), np.array(all_ap), np.array(all_inp)


def assert_same(found: Ranking, expected) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, np.asarray(theirs), **TOLERANCE)


def has_match(case) -> bool:
    _, query_ids, gallery_ids, query_cameras, gallery_cameras = case
    same = query_ids[:, None] == gallery_ids[None]
    return bool((same & (query_cameras[:, None] != gallery_cameras[None])).any())


def enough_left(case, max_rank: int) -> bool:
    """Whether fastreid's rankings are defined: no query has fewer than ``max_rank`` images left."""
    _, query_ids, gallery_ids, query_cameras, gallery_cameras = case
    same = query_ids[:, None] == gallery_ids[None]
    removed = (same & (query_cameras[:, None] == gallery_cameras[None])).sum(axis=1)
    return len(gallery_ids) - removed.max() >= max_rank


def test_a_toy_by_hand():
    # Query 0 (identity 1, camera 0): its own camera's image comes first and is removed; what is left
    # is 9, 1, 8, 1: matches at 2 and 4. Query 1 (identity 2) has no match. Query 2 (identity 8,
    # camera 0): one match, first.
    found = evaluate_rank(
        np.array([[0.1, 0.5, 0.3, 0.2, 0.4], [1, 2, 3, 4, 5], [0.5, 0.5, 0.6, 0.7, 0.1]]),
        query_ids=np.array([1, 2, 8]),
        gallery_ids=np.array([1, 1, 1, 9, 8]),
        query_cameras=np.array([0, 0, 0]),
        gallery_cameras=np.array([0, 1, 2, 0, 1]),
        max_rank=3,
    )
    assert found.cmc.tolist() == [0.5, 1.0, 1.0]
    np.testing.assert_allclose(found.all_ap, [(1 / 2 + 2 / 4) / 2, 1.0])
    np.testing.assert_allclose(found.all_inp, [2 / 4, 1.0])


@given(
    seed=SEEDS,
    queries=st.integers(1, 12),
    gallery=st.integers(1, 40),
    identities=st.integers(1, 6),
    cameras=st.integers(1, 3),
    ties=st.booleans(),
    max_rank=st.integers(1, 50),
)
@settings(max_examples=150, deadline=None)
def test_the_definitions_hold(random_case, seed, queries, gallery, identities, cameras, ties, max_rank):
    case = random_case(seed, queries, gallery, identities, cameras, ties)
    if not has_match(case):
        with pytest.raises(NoMatchError):
            evaluate_rank(*case, max_rank=max_rank)
        return
    assert_same(evaluate_rank(*case, max_rank=max_rank), oracle(*case, max_rank=max_rank))


@given(seed=SEEDS, queries=st.integers(1, 20), gallery=st.integers(20, 90), ties=st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_toolbox_in_python_agrees(random_case, seed, queries, gallery, ties):
    case = random_case(seed, queries, gallery, identities=6, cameras=3, ties=ties)
    assume(has_match(case) and enough_left(case, 10))
    assert_same(evaluate_rank(*case, max_rank=10), eval_market1501(*case, max_rank=10))


@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_more_queries_than_a_block_make_no_difference(random_case, seed):
    case = random_case(seed, 300, 30, identities=20, cameras=2)
    assert_same(evaluate_rank(*case), oracle(*case))


@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_the_order_of_the_gallery_does_not_matter(random_case, seed):
    distances, query_ids, gallery_ids, query_cameras, gallery_cameras = random_case(seed, 10, 40, 4, 2)
    shuffled = np.random.default_rng(seed).permutation(40)
    first = evaluate_rank(distances, query_ids, gallery_ids, query_cameras, gallery_cameras)
    second = evaluate_rank(
        distances[:, shuffled], query_ids, gallery_ids[shuffled], query_cameras, gallery_cameras[shuffled]
    )
    assert_same(first, second)


def test_a_small_gallery_is_silent_and_cuts_the_curve(capsys):
    # Of two images one is removed: the curve of fastreid's Python would be ragged here.
    found = evaluate_rank(np.array([[0.1, 0.2], [0.1, 0.2]]), [1, 2], [1, 2], [0, 1], [0, 0])
    assert found.cmc.tolist() == [0.0, 1.0]
    found = evaluate_rank(np.array([[0.1, 0.2]]), [1], [1, 1], [0], [0, 1])
    assert found.cmc.tolist() == [1.0, 1.0]
    assert capsys.readouterr().out == ""


def test_one_camera_is_a_clear_error():
    with pytest.raises(NoMatchError) as caught:
        evaluate_rank(np.zeros((2, 3)), [1, 2], [1, 2, 2], [7, 7], [7, 7, 7])
    message = str(caught.value)
    assert "\n" not in message
    assert "2 queries" in message
    assert "3 gallery images" in message
    assert "cameras: [7]" in message


@pytest.mark.parametrize("empty", ["queries", "gallery"])
def test_nothing_to_rank_is_a_clear_error(empty):
    queries, gallery = (0, 3) if empty == "queries" else (3, 0)
    labels = [np.zeros(n, dtype=np.int64) for n in (queries, gallery, queries, gallery)]
    with pytest.raises(NoMatchError):
        evaluate_rank(np.zeros((queries, gallery)), *labels)
    with pytest.raises(NoMatchError):
        evaluate_features(torch.zeros(queries, 2), torch.zeros(gallery, 2), *labels)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distances": np.zeros((2, 2))}, r"distances must have shape \(1, 2\).*got \(2, 2\)"),
        ({"query_ids": [[1]]}, r"query_ids and query_cameras must be vectors.*\(1, 1\)"),
        ({"gallery_cameras": [1]}, r"gallery_ids and gallery_cameras must be vectors.*\(2,\) and \(1,\)"),
        ({"max_rank": 0}, "max_rank must be at least 1, got 0"),
    ],
)
def test_wrong_arguments_are_named(changes, message):
    arguments = {
        "distances": np.zeros((1, 2)),
        "query_ids": [1],
        "gallery_ids": [1, 2],
        "query_cameras": [0],
        "gallery_cameras": [1, 1],
    }
    with pytest.raises(ValueError, match=message):
        evaluate_rank(**{**arguments, **changes})


def test_arguments_are_not_changed(random_case):
    case = random_case(0, 10, 30, 4, 2)
    copies = [values.copy() for values in case]
    evaluate_rank(*case)
    for before, after in zip(copies, case, strict=True):
        np.testing.assert_array_equal(before, after)


def random_features(seed: int, identities=8, queries=20, gallery=60):
    generator = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng(seed)
    centres = torch.randn(identities, 16, generator=generator)
    labels = [rng.integers(0, identities, n) for n in (queries, gallery)]
    labels += [rng.integers(0, 3, n) for n in (queries, gallery)]
    features = [centres[ids] + torch.randn(len(ids), 16, generator=generator) for ids in labels[:2]]
    return *features, *labels


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@given(seed=st.integers(0, 2**31), block_size=st.integers(1, 25))
@settings(max_examples=25, deadline=None)
def test_features_rank_as_the_toolbox_distances_do(metric, seed, block_size):
    queries, gallery, *labels = random_features(seed)
    found = evaluate_features(queries, gallery, *labels, metric=metric, max_rank=10, block_size=block_size)
    assert_same(found, eval_market1501(build_dist(queries, gallery, metric), *labels, max_rank=10))


def test_half_precision_features_are_ranked_in_single_precision():
    queries, gallery, *labels = random_features(3)
    half = [features.to(torch.bfloat16) for features in (queries, gallery)]
    found = evaluate_features(*half, *labels)
    assert_same(found, evaluate_features(*(features.float() for features in half), *labels))


def test_features_are_not_changed_and_need_no_gradient():
    queries, gallery, *labels = random_features(4)
    queries.requires_grad_()
    before = queries.detach().clone(), gallery.clone()
    evaluate_features(queries, gallery, *labels, metric="cosine")
    assert torch.equal(queries, before[0])
    assert torch.equal(gallery, before[1])


def test_the_whole_matrix_is_never_made(monkeypatch):
    queries, gallery, *labels = random_features(5, queries=50)
    sizes = []
    original = tiles._distances
    monkeypatch.setattr(
        tiles, "_distances", lambda *parts: sizes.append((len(parts[0]), len(parts[1]))) or original(*parts)
    )
    evaluate_features(queries, gallery, *labels, block_size=20)
    assert sizes == [(20, 60), (20, 60), (10, 60)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": "jaccard"}, "metric must be one of euclidean, cosine, got 'jaccard'"),
        ({"block_size": 0}, "block_size must be at least 1, got 0"),
        ({"query_features": torch.zeros(2, 3)}, r"query_features must have shape \[1, D\].*got \[2, 3\]"),
        (
            {"gallery_features": torch.tensor([[1.0], [float("nan")]])},
            "gallery_features must be finite, got 1 of 2",
        ),
    ],
)
def test_wrong_feature_arguments_are_named(changes, message):
    arguments = {
        "query_features": torch.zeros(1, 3),
        "gallery_features": torch.zeros(2, 3),
        "query_ids": [1],
        "gallery_ids": [1, 2],
        "query_cameras": [0],
        "gallery_cameras": [1, 1],
    }
    with pytest.raises(ValueError, match=message):
        evaluate_features(**{**arguments, **changes})


def test_the_rankings_work_without_the_toolbox():
    script = (
        "import sys; sys.modules['fastreid'] = None\n"
        "import numpy as np, nplp.evaluation as e\n"
        "print(e.evaluate_rank(np.zeros((1, 1)), [1], [1], [0], [1]).cmc.tolist())\n"
        "try: e.BoundedReidEvaluator\n"
        "except ImportError as error: print(error)\n"
        "print(hasattr(e, 'absent'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True
    )
    first, second, third = done.stdout.splitlines()
    assert first == "[1.0]"
    assert second.endswith("pip install --no-deps fastreid==1.4.0")
    assert third == "False"


@pytest.mark.parametrize("seed", range(5))
def test_queries_without_a_match_are_those_that_a_look_at_every_pair_leaves(random_case, seed):
    _, query_ids, gallery_ids, query_cameras, gallery_cameras = random_case(seed, 30, 12, 9, 2)
    alone = [
        query
        for query in range(30)
        if not any(
            gallery_ids[image] == query_ids[query] and gallery_cameras[image] != query_cameras[query]
            for image in range(12)
        )
    ]
    found = queries_without_match(query_ids, gallery_ids, query_cameras, gallery_cameras)
    assert found.tolist() == alone
    assert 0 < len(alone) < 30


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_a_caller_who_allows_shortened_products_gets_the_same_ranking(monkeypatch, metric):
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(count, 16, generator=generator) for count in (40, 200)]
    rng = np.random.default_rng(0)
    labels = [rng.integers(0, high, count) for high in (9, 3) for count in (40, 200)]
    expected = evaluate_features(*features, *labels, metric=metric)
    products = []
    own = tiles._distances
    monkeypatch.setattr(tiles, "_distances", lambda *parts: products.append(own(*parts)) or products[-1])
    monkeypatch.setattr(tiles, "keeps_float32", lambda device: False)
    found = evaluate_features(*features, *labels, metric=metric)
    assert {block.dtype for block in products} == {torch.float64}
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
