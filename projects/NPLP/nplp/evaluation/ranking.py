"""Ranking metrics of re-identification, in blocks of queries.

Shapes: Q queries, G gallery images, V queries with a match, D feature dimensions, B queries in a block.

The meaning is that of fastreid's ``evaluate_rank`` (the Market-1501 protocol): for each query, gallery
images of its identity from its own camera are removed; a query with no image of its identity left
counts nowhere. Of what is left, ordered by distance, with a match at the (0-based) positions
``p_1 < ... < p_m``:

* CMC at rank k: the share of queries with ``p_1 < k``;
* AP: the mean over i of ``i / (p_i + 1)``; mAP is the mean of AP over queries;
* INP: ``m / (p_m + 1)``, the inverse negative penalty.

Order of equal distances: that of ``numpy.argsort`` with its default kind, on the array as given, which
is what fastreid calls in Python and (after a cast to float32) in Cython. On the same machine ties
therefore fall as they do there.
"""

from typing import NamedTuple

import numpy as np
import torch

from nplp.evaluation.positions import match_positions
from nplp.evaluation.protocol import (
    Labels,
    NoMatchError,
    check_labels,
    queries_without_match,
    require_match,
)
from nplp.evaluation.tiles import (
    BLOCK_SIZE,
    DistanceBlocks,
    FeatureDistances,
    GivenDistances,
    check_features,
    read_blocks,
)

__all__ = [
    "ListReader",
    "NoMatchError",
    "QueryScores",
    "RankLists",
    "Ranking",
    "ScoreReader",
    "evaluate_features",
    "evaluate_rank",
    "queries_without_match",
    "rank_lists",
    "score_block",
    "score_queries",
    "summarise",
]


class Ranking(NamedTuple):
    """What a ranking of the gallery for each query is worth.

    Attributes:
        cmc: ``[min(max_rank, G)]`` float64, the share of queries matched within 1, 2, ... ranks.
        all_ap: ``[V]`` float64, average precision of each query with a match, in the queries' order.
        all_inp: ``[V]`` float64, inverse negative penalty of each.
    """

    cmc: np.ndarray
    all_ap: np.ndarray
    all_inp: np.ndarray


class QueryScores(NamedTuple):
    """What each query with a match gives.

    Attributes:
        queries: ``[V]`` int64, their numbers, ascending.
        first: ``[V]`` int64, the position of the first match, 0 for Rank-1.
        average_precision: ``[V]`` float64.
        inverse_penalty: ``[V]`` float64, INP.
    """

    queries: np.ndarray
    first: np.ndarray
    average_precision: np.ndarray
    inverse_penalty: np.ndarray


class RankLists(NamedTuple):
    """The beginning of each query's ranking.

    Attributes:
        top: ``[Q, k]`` int64, the nearest gallery images left after the removal, -1 where there are no more.
        average_precision: ``[Q]`` float64, NaN for a query without a match.
    """

    top: np.ndarray
    average_precision: np.ndarray


def evaluate_rank(
    distances: np.ndarray | torch.Tensor,
    query_ids: np.ndarray | torch.Tensor,
    gallery_ids: np.ndarray | torch.Tensor,
    query_cameras: np.ndarray | torch.Tensor,
    gallery_cameras: np.ndarray | torch.Tensor,
    max_rank: int = 50,
) -> Ranking:
    """Rank the gallery for each query by given distances.

    Equal to fastreid's ``evaluate_rank`` within float32 precision, with one difference: where fewer than
    ``max_rank`` gallery images are left after the removal, the curve of a query stays at 1 beyond them
    (fastreid's Python fails there, its Cython reads what the query before left behind).

    Args:
        distances: ``[Q, G]``, any real dtype; not changed.
        query_ids: ``[Q]`` integer identities.
        gallery_ids: ``[G]`` integer identities.
        query_cameras: ``[Q]`` integer camera ids.
        gallery_cameras: ``[G]`` integer camera ids.
        max_rank: length of the CMC curve, cut to G where the gallery is smaller.

    Returns:
        The metrics, as fractions. Beyond the arguments, memory is O(B G) at the most, with B of 128.

    Raises:
        NoMatchError: if no query has a match from another camera.
        ValueError: if shapes do not fit or ``max_rank`` is below 1.
    """
    dense = distances.detach().cpu().numpy() if isinstance(distances, torch.Tensor) else np.asarray(distances)
    labels = check_labels(query_ids, gallery_ids, query_cameras, gallery_cameras)
    _check_rank(max_rank)
    expected = (len(labels.query_ids), len(labels.gallery_ids))
    if dense.shape != expected:
        raise ValueError(f"distances must have shape {expected} for these identities, got {dense.shape}")
    return summarise(score_queries(GivenDistances(dense), labels), min(max_rank, expected[1]))


def evaluate_features(
    query_features: torch.Tensor,
    gallery_features: torch.Tensor,
    query_ids: np.ndarray | torch.Tensor,
    gallery_ids: np.ndarray | torch.Tensor,
    query_cameras: np.ndarray | torch.Tensor,
    gallery_cameras: np.ndarray | torch.Tensor,
    metric: str = "euclidean",
    max_rank: int = 50,
    block_size: int = BLOCK_SIZE,
) -> Ranking:
    """Rank the gallery for each query by the distance of their features, some queries at a time.

    The distances are those of :class:`nplp.evaluation.tiles.FeatureDistances`.

    Args:
        query_features: ``[Q, D]`` floating point, on any device.
        gallery_features: ``[G, D]``, same dtype and device.
        query_ids: ``[Q]`` integers, as the three that follow: see :func:`evaluate_rank`.
        gallery_ids: ``[G]``.
        query_cameras: ``[Q]``.
        gallery_cameras: ``[G]``.
        metric: ``"euclidean"`` or ``"cosine"``.
        max_rank: length of the CMC curve, cut to G.
        block_size: queries ranked at a time, B; fewer where memory does not suffice.

    Returns:
        The metrics, as fractions. Peak memory beyond the features is 8 B G bytes, and 25 B G where many
        distances are equal (with the default B of 128, 0.26 GB for 82,161 gallery images), and never Q x G;
        cosine adds a normalised copy of the features.

    Raises:
        NoMatchError: if no query has a match from another camera.
        ValueError: if shapes do not fit, features are not finite, or an argument is out of range.
    """
    labels = check_labels(query_ids, gallery_ids, query_cameras, gallery_cameras)
    _check_rank(max_rank)
    check_features(query_features, len(labels.query_ids), "query_features")
    check_features(gallery_features, len(labels.gallery_ids), "gallery_features")
    distances = FeatureDistances(query_features, gallery_features, metric)
    if block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {block_size}")
    return summarise(score_queries(distances, labels, block_size), min(max_rank, len(gallery_features)))


def score_queries(distances: DistanceBlocks, labels: Labels, block_size: int = BLOCK_SIZE) -> QueryScores:
    """Return the scores of each query with a match.

    Args:
        distances: ``[Q, G]``.
        labels: of the queries and the gallery.
        block_size: queries ranked at a time; fewer where memory does not suffice.

    Raises:
        NoMatchError: if no query has a match from another camera.
    """
    require_match(labels)
    reader = ScoreReader()
    read_blocks(distances, labels, [reader], block_size)
    return reader.scores()


def rank_lists(
    query_features: torch.Tensor,
    gallery_features: torch.Tensor,
    query_ids: np.ndarray | torch.Tensor,
    gallery_ids: np.ndarray | torch.Tensor,
    query_cameras: np.ndarray | torch.Tensor,
    gallery_cameras: np.ndarray | torch.Tensor,
    metric: str = "euclidean",
    length: int = 10,
) -> RankLists:
    """Return the nearest gallery images of each query, to be looked at, and its average precision.

    Args:
        query_features: as the other arguments, see :func:`evaluate_features`.
        gallery_features: likewise.
        query_ids: likewise.
        gallery_ids: likewise.
        query_cameras: likewise.
        gallery_cameras: likewise.
        metric: likewise.
        length: k.

    Returns:
        The lists. Memory is some 25 B G bytes, with B of 128.
    """
    labels = check_labels(query_ids, gallery_ids, query_cameras, gallery_cameras)
    reader = ListReader(length)
    read_blocks(FeatureDistances(query_features, gallery_features, metric), labels, [reader])
    return reader.lists()


class ScoreReader:
    """Reads the scores of the queries."""

    def __init__(self) -> None:
        self._blocks: list[QueryScores] = []
        self._read = 0

    def read(self, distances: np.ndarray, labels: Labels) -> tuple[int, QueryScores]:
        """Return B and the scores of a block, whose queries count from 0."""
        return len(distances), score_block(distances, labels)

    def keep(self, found: tuple[int, QueryScores]) -> None:
        """Keep a block's scores."""
        count, scores = found
        self._blocks.append(scores._replace(queries=scores.queries + self._read))
        self._read += count

    def scores(self) -> QueryScores:
        """Return the scores of all blocks."""
        return QueryScores(*(np.concatenate(parts) for parts in zip(*self._blocks, strict=True)))


class ListReader:
    """Reads the beginnings of the rankings; it sorts every row.

    Args:
        length: k.
    """

    def __init__(self, length: int = 10) -> None:
        _check_rank(length)
        self._length = length
        self._blocks: list[RankLists] = []

    def read(self, distances: np.ndarray, labels: Labels) -> RankLists:
        """Return the lists of a block."""
        order = np.argsort(distances, axis=1)
        same = labels.gallery_ids[order] == labels.query_ids[:, None]
        removed = same & (labels.gallery_cameras[order] == labels.query_cameras[:, None])
        top = np.full((len(order), self._length), -1, dtype=np.int64)
        place = np.cumsum(~removed, axis=1) - 1
        rows, columns = np.nonzero(~removed & (place < self._length))
        top[rows, place[rows, columns]] = order[rows, columns]
        precision = np.full(len(order), np.nan)
        scores = score_block(distances, labels)
        precision[scores.queries] = scores.average_precision
        return RankLists(top, precision)

    def keep(self, found: RankLists) -> None:
        """Keep a block's lists."""
        self._blocks.append(found)

    def lists(self) -> RankLists:
        """Return the lists of all blocks."""
        return RankLists(*(np.concatenate(parts) for parts in zip(*self._blocks, strict=True)))


def score_block(distances: np.ndarray, labels: Labels) -> QueryScores:
    """Return the scores of those of B queries that have a match, numbered from 0.

    Args:
        distances: ``[B, G]``, of any real type.
        labels: of these queries and the gallery.
    """
    rows, positions = match_positions(distances, labels)
    if not len(rows):
        nothing, none = np.empty(0), np.empty(0, dtype=np.int64)
        return QueryScores(none, none, nothing, nothing)
    first = np.flatnonzero(np.diff(rows, prepend=-1))
    last = np.append(first[1:], len(rows)) - 1
    sizes = last - first + 1
    nth = np.arange(len(rows)) - np.repeat(first, sizes) + 1
    precision = nth / (positions + 1)
    all_ap = np.add.reduceat(precision, first) / nth[last]
    return QueryScores(rows[first], positions[first], all_ap, precision[last])


def summarise(scores: QueryScores, length: int) -> Ranking:
    """Return the metrics of scores, with a CMC curve of ``length`` ranks."""
    first = scores.first
    counts = np.bincount(np.minimum(first, length), minlength=length + 1)
    cmc = np.cumsum(counts[:length]) / len(first)
    return Ranking(cmc, scores.average_precision, scores.inverse_penalty)


def _check_rank(max_rank: int) -> None:
    if max_rank < 1:
        raise ValueError(f"max_rank must be at least 1, got {max_rank}")
