"""Re-ranking against the toolbox's functions and against the paper, read out one step after the other."""

import importlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fastreid.evaluation import rerank
from fastreid.evaluation.rerank import re_ranking
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from nplp.clustering.reciprocal import relative_encoding
from nplp.clustering.sweep import FeatureRows, nearest_and_farthest, nearest_neighbours
from nplp.evaluation import reranking
from nplp.evaluation.reranking import RerankedDistances, Reranking, rerank_distances

SEEDS = st.integers(0, 2**32 - 1)
SMALL = {"queries": st.integers(1, 9), "gallery": st.integers(1, 30)}
NUMBERS = {"k1": st.integers(1, 12), "k2": st.integers(1, 8), "share": st.sampled_from([0.0, 0.3, 1.0])}
ABSOLUTE = 2e-6
"""The toolbox works in float32."""


def draw(seed: int, queries: int, gallery: int, ties: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Return features of some people; with ties of small integers, so that many distances are equal."""
    rng = np.random.default_rng(seed)
    count = queries + gallery
    if ties:
        values = rng.integers(0, 4, (count, 3))
    else:
        values = rng.normal(size=(6, 8))[rng.integers(0, 6, count)] + 0.7 * rng.normal(size=(count, 8))
    features = torch.from_numpy(values.astype(np.float32))
    return features[:queries], features[queries:]


def squared_distances(queries: torch.Tensor, gallery: torch.Tensor) -> np.ndarray:
    samples = torch.cat([queries, gallery]).double().numpy()
    return ((samples[:, None] - samples) ** 2).sum(axis=2)


def oracle(squared: np.ndarray, queries: int, settings: Reranking) -> np.ndarray:
    """Zhong et al., section 3, with equal distances in the order of the samples."""
    count, k1 = len(squared), settings.k1
    largest = squared.max(axis=1, keepdims=True)
    original = np.divide(squared, largest, out=np.zeros_like(squared), where=largest > 0)
    order = [sorted(range(count), key=lambda j, i=i: (squared[i, j], j)) for i in range(count)]

    def mutual(i: int, k: int) -> set[int]:
        return {j for j in order[i][: k + 1] if i in order[j][: k + 1]}

    weights = np.zeros((count, count))
    for i in range(count):
        base = mutual(i, k1)
        expanded = set(base)
        for candidate in base:
            others = mutual(candidate, int(np.around(k1 / 2)))
            if len(base & others) > 2 / 3 * len(others):
                expanded |= others
        for j in expanded:
            weights[i, j] = np.exp(-original[i, j])
        if expanded:
            weights[i] /= weights[i].sum()
    if settings.k2 > 1:  # else no other sample's weights, not even a copy's, which may come before i itself
        near = [order[i][: settings.k2] for i in range(count)]
        weights = np.array([np.mean([weights[j] for j in one], axis=0) for one in near])
    final = np.empty((queries, count - queries))
    for q in range(queries):
        for g in range(queries, count):
            shared = np.minimum(weights[q], weights[g]).sum()
            jaccard = 1 - shared / (2 - shared)
            final[q, g - queries] = (1 - settings.share) * jaccard + settings.share * original[q, g]
    return final


def the_toolboxs(squared: np.ndarray, queries: int, chosen: Reranking) -> np.ndarray:
    """Return what ``re_ranking`` gives for Euclidean distances, which it squares."""
    distances = np.sqrt(squared)
    parts = distances[:queries, queries:], distances[:queries, :queries], distances[queries:, queries:]
    return re_ranking(*parts, chosen.k1, chosen.k2, chosen.share)


@pytest.fixture
def _stable(monkeypatch):
    """Let the toolbox sort equal distances in the order of the samples, not in that of an unstable sort."""
    functions = {name: getattr(np, name) for name in dir(np) if not name.startswith("_")}
    functions["argsort"] = lambda values: np.argsort(values, kind="stable")
    monkeypatch.setattr(rerank, "np", SimpleNamespace(**functions))


@pytest.mark.usefixtures("_stable")
@pytest.mark.parametrize("ties", [False, True])
@given(seed=SEEDS, **SMALL, **NUMBERS)
@settings(max_examples=30, deadline=None)
def test_the_papers_form_is_the_paper_and_the_toolboxs_function(ties, seed, queries, gallery, k1, k2, share):
    features, chosen = draw(seed, queries, gallery, ties), Reranking(k1, k2, share)
    squared = squared_distances(*features)
    found = rerank_distances(*features, settings=chosen)
    np.testing.assert_allclose(found, oracle(squared, queries, chosen), atol=ABSOLUTE)
    if squared.max(axis=1).all():
        # The toolbox divides by zero where all samples are the same.
        np.testing.assert_allclose(found, the_toolboxs(squared, queries, chosen), atol=ABSOLUTE)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@given(seed=SEEDS, k1=st.integers(2, 12), k2=st.integers(1, 8), share=st.sampled_from([0.0, 0.3, 1.0]))
@settings(max_examples=25, deadline=None)
def test_the_toolboxs_form_is_its_evaluators(metric, seed, k1, k2, share):
    queries, gallery = draw(seed, 8, 40)
    compute = importlib.import_module("fastreid.utils.compute_dist")
    original = compute.build_dist(queries, gallery, metric)
    parts = [F.normalize(part) if metric == "cosine" else part for part in (queries, gallery)]
    expected = compute.build_dist(*parts, "jaccard", k1=k1, k2=k2) * (1 - share) + original * share
    found = rerank_distances(queries, gallery, metric, Reranking(k1, k2, share, "toolbox"))
    np.testing.assert_allclose(found, expected, atol=2e-5, rtol=1e-5)


def test_many_samples_in_several_blocks_and_threads_are_the_toolboxs(monkeypatch):
    features = draw(0, 300, 500)
    monkeypatch.setattr(reranking, "_ROWS", 7)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = rerank_distances(*features)
    finally:
        torch.set_num_threads(threads)
    expected = the_toolboxs(squared_distances(*features), 300, Reranking())
    np.testing.assert_allclose(found, expected, atol=ABSOLUTE)


def test_cosine_is_the_euclidean_distance_of_unit_features():
    queries, gallery = draw(3, 9, 40)
    unit = F.normalize(queries, dim=1), F.normalize(gallery, dim=1)
    found = rerank_distances(queries * 7, gallery, "cosine")
    np.testing.assert_allclose(found, rerank_distances(*unit), atol=ABSOLUTE)


def test_copies_of_one_image_are_at_the_least_distance():
    same = torch.ones(9, 4)
    for form in ("paper", "toolbox"):
        found = rerank_distances(same[:2], same[2:], settings=Reranking(3, 2, form=form))
        assert np.isfinite(found).all()
    # Each has the whole weight on the first samples, as all are at distance 0.
    assert rerank_distances(same[:2], same[2:], settings=Reranking(20, 6)).max() == pytest.approx(0, abs=1e-6)


def test_no_array_grows_with_all_pairs(monkeypatch):
    count, largest = 3_000, 0
    features = draw(1, 500, count - 500)
    empty, zeros = np.empty, np.zeros

    def watched(make):
        def made(shape, *args, **kwargs):
            nonlocal largest
            array = make(shape, *args, **kwargs)
            largest = max(largest, array.size)
            return array

        return made

    monkeypatch.setattr(np, "empty", watched(empty))
    monkeypatch.setattr(np, "zeros", watched(zeros))
    distances = RerankedDistances(*features, settings=Reranking(5, 2))
    block = distances.block(0, 128)
    assert block.shape == (128, 2_500)
    # N x N would be nine million, Q x G more than one.
    assert 100_000 < largest < 1_000_000


def test_views_of_one_array_are_not_copied():
    queries, gallery = draw(0, 5, 20)
    samples = reranking._samples(queries, gallery, "euclidean")
    assert samples.data_ptr() == queries.data_ptr()
    apart = reranking._samples(queries.clone(), gallery.clone(), "euclidean")
    assert torch.equal(samples, apart)
    back = reranking._samples(gallery, queries, "euclidean")
    assert torch.equal(back, torch.cat([gallery, queries]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k1": 0}, "k1 must be at least 1, got 0"),
        ({"k2": 0}, "k2 must be at least 1, got 0"),
        ({"share": 1.5}, r"share \(lambda\) must be in \[0, 1\], got 1.5"),
        ({"form": "mine"}, "form must be one of toolbox, paper, got 'mine'"),
    ],
)
def test_wrong_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        Reranking(**changes)


def test_a_wrong_metric_is_named():
    with pytest.raises(ValueError, match="metric must be one of euclidean, cosine, got 'jaccard'"):
        RerankedDistances(*draw(0, 2, 4), metric="jaccard")


@pytest.mark.parametrize("half", [False, True])
@given(seed=SEEDS, count=st.integers(1, 60), ties=st.booleans())
@settings(max_examples=25, deadline=None)
def test_the_farthest_is_the_largest_of_all_distances(half, seed, count, ties):
    samples = torch.cat(draw(seed, 1, count, ties))
    rows = FeatureRows.plain(samples.numpy())
    ranks, farthest = nearest_and_farthest(rows, 4, half=half)
    squared = squared_distances(samples[:1], samples[1:])
    np.testing.assert_allclose(farthest, squared.max(axis=1), rtol=1e-12)
    np.testing.assert_array_equal(ranks, nearest_neighbours(rows, 4))


def test_the_weights_of_a_sample_sum_to_one():
    rows = FeatureRows.plain(torch.cat(draw(5, 10, 60)).numpy())
    weights, farthest = relative_encoding(rows, 6, 3)
    sums = np.add.reduceat(weights.weights, weights.starts[:-1])
    np.testing.assert_allclose(sums, 1)
    assert len(farthest) == len(weights) == 70
