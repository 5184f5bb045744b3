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

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch.nn import functional as F

from nplp.memory import ShrinkingBlocks
from nplp.metric_names import TEST_DISTANCES
from nplp.products import keeps_float32

__all__ = [
    "NoMatchError",
    "RankLists",
    "Ranking",
    "evaluate_features",
    "evaluate_rank",
    "queries_without_match",
    "rank_lists",
]

T = TypeVar("T")

BLOCK_SIZE = 128


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


class RankLists(NamedTuple):
    """The beginning of each query's ranking.

    Attributes:
        top: ``[Q, k]`` int64, the nearest gallery images left after the removal, -1 where there are no more.
        average_precision: ``[Q]`` float64, NaN for a query without a match.
    """

    top: np.ndarray
    average_precision: np.ndarray


class NoMatchError(ValueError):
    """No query has a gallery image of its identity from another camera."""


class _Labels(NamedTuple):
    """Identities and cameras as int64 arrays ``[Q]`` and ``[G]``."""

    query_ids: np.ndarray
    gallery_ids: np.ndarray
    query_cameras: np.ndarray
    gallery_cameras: np.ndarray

    def of_queries(self, start: int, stop: int) -> "_Labels":
        """Return the same gallery with the queries from ``start`` to ``stop``."""
        chosen = slice(start, stop)
        return self._replace(query_ids=self.query_ids[chosen], query_cameras=self.query_cameras[chosen])


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
        The metrics, as fractions. Beyond the arguments, memory is O(B G), with B of 128.

    Raises:
        NoMatchError: if no query has a match from another camera.
        ValueError: if shapes do not fit or ``max_rank`` is below 1.
    """
    dense = distances.detach().cpu().numpy() if isinstance(distances, torch.Tensor) else np.asarray(distances)
    labels = _check_labels(query_ids, gallery_ids, query_cameras, gallery_cameras, max_rank)
    expected = (len(labels.query_ids), len(labels.gallery_ids))
    if dense.shape != expected:
        raise ValueError(f"distances must have shape {expected} for these identities, got {dense.shape}")
    _require_match(labels)
    blocks = [
        _rank_block(dense[start : start + BLOCK_SIZE], labels.of_queries(start, start + BLOCK_SIZE))
        for start in range(0, len(dense), BLOCK_SIZE)
    ]
    return _summarise(blocks, min(max_rank, expected[1]))


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

    The distances are fastreid's, computed with the same operations in the features' precision, float32 at
    the least: the squared Euclidean distance ``|q|^2 + |g|^2 - 2 q.g``, or ``1 - q.g / (|q| |g|)``.

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
        The metrics, as fractions. Peak memory beyond the features is about 25 B G bytes (with the
        default B of 128, 0.26 GB for 82,161 gallery images), and never Q x G; cosine adds a normalised
        copy of the gallery's features.

    Raises:
        NoMatchError: if no query has a match from another camera.
        ValueError: if shapes do not fit, features are not finite, or an argument is out of range.
    """
    labels = _check_labels(query_ids, gallery_ids, query_cameras, gallery_cameras, max_rank)
    _check_features(query_features, len(labels.query_ids), "query_features")
    _check_features(gallery_features, len(labels.gallery_ids), "gallery_features")
    if metric not in TEST_DISTANCES:
        raise ValueError(f"metric must be one of {', '.join(TEST_DISTANCES)}, got {metric!r}")
    if block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {block_size}")
    _require_match(labels)
    blocks: list[np.ndarray] = []
    _by_blocks(query_features, gallery_features, labels, metric, block_size, _rank_block, blocks.append)
    return _summarise(blocks, min(max_rank, len(gallery_features)))


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
        The lists. Memory as for :func:`evaluate_features`.
    """
    labels = _check_labels(query_ids, gallery_ids, query_cameras, gallery_cameras, length)
    blocks: list[tuple[np.ndarray, np.ndarray]] = []

    def rank(distances: np.ndarray, part: _Labels) -> tuple[np.ndarray, np.ndarray]:
        order = np.argsort(distances, axis=1)
        same = part.gallery_ids[order] == part.query_ids[:, None]
        removed = same & (part.gallery_cameras[order] == part.query_cameras[:, None])
        top = np.full((len(order), length), -1, dtype=np.int64)
        place = np.cumsum(~removed, axis=1) - 1
        rows, columns = np.nonzero(~removed & (place < length))
        top[rows, place[rows, columns]] = order[rows, columns]
        precision = np.full(len(order), np.nan)
        precision[(same & ~removed).any(axis=1)] = _rank_block(distances, part)[1]
        return top, precision

    _by_blocks(query_features, gallery_features, labels, metric, BLOCK_SIZE, rank, blocks.append)
    top, precision = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return RankLists(top, precision)


def _by_blocks(
    query_features: torch.Tensor,
    gallery_features: torch.Tensor,
    labels: _Labels,
    metric: str,
    block_size: int,
    rank: Callable[[np.ndarray, _Labels], T],
    take: Callable[[T], object],
) -> None:
    """Give the distances ``[B, G]`` of blocks of queries to ``rank``, and its results to ``take``."""
    precision = torch.promote_types(gallery_features.dtype, torch.float32)
    if precision == torch.float32 and not keeps_float32(gallery_features.device):
        # The caller lets torch shorten products of float32, such as by TF32, which would change rankings.
        precision = torch.float64
    queries, gallery = query_features.detach().to(precision), gallery_features.detach().to(precision)
    if metric == "cosine":
        queries, gallery = F.normalize(queries, dim=1), F.normalize(gallery, dim=1)
    squares = gallery.pow(2).sum(dim=1)[None, :] if metric == "euclidean" else None

    def rank_block(start: int, stop: int) -> T:
        distances = _distances(queries[start:stop], gallery, squares).cpu().numpy()
        return rank(distances, labels.of_queries(start, stop))

    ShrinkingBlocks("Ranking", block_size).run(len(queries), rank_block, take)


def _distances(queries: torch.Tensor, gallery: torch.Tensor, squares: torch.Tensor | None) -> torch.Tensor:
    """Return ``[B, G]`` squared Euclidean distances; without ``squares``, cosine ones of unit features."""
    if squares is None:
        return 1 - queries @ gallery.t()
    sums = queries.pow(2).sum(dim=1, keepdim=True) + squares
    return sums.addmm_(queries, gallery.t(), beta=1, alpha=-2)


def _rank_block(distances: np.ndarray, labels: _Labels) -> np.ndarray:
    """Return ``[3, v]``: first match's position, AP and INP of those of ``B`` queries that have a match.

    Only gallery images of the query's identity matter once their positions are known, and they are few:
    everything after the sort works on the list of them.
    """
    order = np.argsort(distances, axis=1)
    # Row by row, and within a row by position: nonzero's order.
    rows, positions = np.nonzero(labels.gallery_ids[order] == labels.query_ids[:, None])
    removed = labels.gallery_cameras[order[rows, positions]] == labels.query_cameras[rows]
    removed_before = _count_before(removed, rows)
    rows, positions = rows[~removed], (positions - removed_before)[~removed]
    if not len(rows):
        return np.empty((3, 0))
    nth = _count_before(np.ones(len(rows), dtype=bool), rows) + 1
    precision = nth / (positions + 1)
    first = np.flatnonzero(np.diff(rows, prepend=-1))
    last = np.append(first[1:], len(rows)) - 1
    all_ap = np.add.reduceat(precision, first) / nth[last]
    return np.stack([positions[first], all_ap, precision[last]])


def _count_before(flags: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return how many ``flags`` are set before each entry in its row; ``rows`` ascend."""
    before = np.cumsum(flags) - flags
    starts = np.searchsorted(rows, rows)
    return before - before[starts]


def _summarise(blocks: list[np.ndarray], length: int) -> Ranking:
    first, all_ap, all_inp = np.concatenate(blocks, axis=1)
    counts = np.bincount(np.minimum(first, length).astype(np.int64), minlength=length + 1)
    return Ranking(np.cumsum(counts[:length]) / len(first), all_ap, all_inp)


def queries_without_match(
    query_ids: np.ndarray | torch.Tensor,
    gallery_ids: np.ndarray | torch.Tensor,
    query_cameras: np.ndarray | torch.Tensor,
    gallery_cameras: np.ndarray | torch.Tensor,
) -> np.ndarray:
    """Return the queries that count in no metric, as their identity is in no other camera of the gallery.

    Args:
        query_ids: as the other arguments, see :func:`evaluate_rank`.
        gallery_ids: likewise.
        query_cameras: likewise.
        gallery_cameras: likewise.

    Returns:
        Their numbers, int64, ascending; Q - V of them.
    """
    return _without_match(_check_labels(query_ids, gallery_ids, query_cameras, gallery_cameras, 1))


def _without_match(labels: _Labels) -> np.ndarray:
    cameras_of: dict[int, set[int]] = {}
    for identity, camera in zip(labels.gallery_ids.tolist(), labels.gallery_cameras.tolist(), strict=True):
        cameras_of.setdefault(identity, set()).add(camera)
    pairs = zip(labels.query_ids.tolist(), labels.query_cameras.tolist(), strict=True)
    alone = [not cameras_of.get(identity, set()) - {camera} for identity, camera in pairs]
    return np.flatnonzero(alone)


def _require_match(labels: _Labels) -> None:
    """Raise NoMatchError unless some query's identity is in the gallery under another camera."""
    if len(_without_match(labels)) < len(labels.query_ids):
        return
    cameras = np.unique(np.concatenate([labels.query_cameras, labels.gallery_cameras])).tolist()
    raise NoMatchError(
        f"no query has a match: no identity of the {len(labels.query_ids)} queries is among the "
        f"{len(labels.gallery_ids)} gallery images under another camera (cameras: {cameras[:20]}); a test "
        "set needs images of the same identities from at least two cameras"
    )


def _check_labels(
    query_ids: np.ndarray | torch.Tensor,
    gallery_ids: np.ndarray | torch.Tensor,
    query_cameras: np.ndarray | torch.Tensor,
    gallery_cameras: np.ndarray | torch.Tensor,
    max_rank: int,
) -> _Labels:
    vectors = (query_ids, gallery_ids, query_cameras, gallery_cameras)
    labels = _Labels(*(torch.as_tensor(one, dtype=torch.int64, device="cpu").numpy() for one in vectors))
    for name, (ids, cameras) in {"query": labels[::2], "gallery": labels[1::2]}.items():
        if ids.ndim != 1 or ids.shape != cameras.shape:
            raise ValueError(
                f"{name}_ids and {name}_cameras must be vectors of the same length, got shapes {ids.shape} "
                f"and {cameras.shape}"
            )
    if max_rank < 1:
        raise ValueError(f"max_rank must be at least 1, got {max_rank}")
    return labels


def _check_features(features: torch.Tensor, rows: int, name: str) -> None:
    if features.ndim != 2 or len(features) != rows:
        raise ValueError(
            f"{name} must have shape [{rows}, D] for these identities, got {list(features.shape)}"
        )
    if not torch.isfinite(features).all():
        broken = int((~torch.isfinite(features)).any(dim=1).sum())
        raise ValueError(
            f"{name} must be finite, got {broken} of {rows} rows with infinite or missing values"
        )
