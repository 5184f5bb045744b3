"""k-reciprocal re-ranking in bounded memory.

Zhong, Zheng, Cao, Li, "Re-ranking person re-identification with k-reciprocal encoding", CVPR 2017. The
final distance of a query q and a gallery image g is

    (1 - lambda) d_J(q, g) + lambda d(q, g)                                              (eq. 12 there)

with the original distance d, and the Jaccard distance d_J of the weights that q and g give to all
samples. The weights are made in the steps of :func:`nplp.clustering.reciprocal.reciprocal_encoding`.
There are two forms. With e the Euclidean distance, of unit features where the ranking is by cosine, and
m(i) the greatest of i's squared distances to all samples, queries and gallery:

* ``"paper"``, fastreid 1.4.0's function ``re_ranking``: sets are taken from i itself and k1 others; the
  weight of j for i is exp(-e(i, j)^2 / m(i)), over their sum; d(q, g) is e(q, g)^2 / m(q). The result
  does not depend on the features' unit.
* ``"toolbox"``, what fastreid 1.4.0's evaluator does for ``TEST.RERANK``: sets are taken from i itself
  and k1 - 1 others; the weight is exp(-e(i, j)^2), over their sum; d(q, g) is the distance of the ranking
  as it is, e(q, g)^2 or 1 - cos(q, g). The result depends on the unit where the ranking is Euclidean:
  with features some tens long each sample keeps all weight to itself, and re-ranking changes next to
  nothing.

Neighbours are in the order of the exact distances and, at equal ones, of their indices, queries first.
The toolbox's order of equal distances is that of an unstable sort. Its matrices hold N x N float32; here
rows are sparse, and distances come in blocks of queries.

Shapes: Q queries, G gallery images, N = Q + G samples, B queries in a block.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch.nn import functional as F

from nplp.clustering.jaccard import entries_by_column
from nplp.clustering.reciprocal import reciprocal_encoding, relative_encoding
from nplp.clustering.sweep import FeatureRows, Progress, compiled, row_blocks, run_blocks
from nplp.evaluation.tiles import BLOCK_SIZE, DistanceBlocks, FeatureDistances
from nplp.metric_names import RERANK_PAPER, RERANKINGS, TEST_DISTANCES

__all__ = ["RerankedDistances", "Reranking", "rerank_distances"]

_ROWS = 16


@dataclass(frozen=True)
class Reranking:
    """The settings of re-ranking, fastreid's by default.

    Attributes:
        k1: neighbours that the sets are taken from, at least 1.
        k2: neighbours, the sample itself among them, whose weights are averaged, at least 1.
        share: lambda, the original distance's share, in [0, 1].
        form: ``"paper"`` or ``"toolbox"``.
    """

    k1: int = 20
    k2: int = 6
    share: float = 0.3
    form: str = RERANK_PAPER

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: naming the first that is out of its range.
        """
        for name, value in (("k1", self.k1), ("k2", self.k2)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0 <= self.share <= 1:
            raise ValueError(f"share (lambda) must be in [0, 1], got {self.share}")
        if self.form not in RERANKINGS:
            raise ValueError(f"form must be one of {', '.join(RERANKINGS)}, got {self.form!r}")


class RerankedDistances:
    """Re-ranked distances ``[Q, G]`` in blocks of queries.

    Memory beyond the features: while neighbours are looked for, 64 (k1 + 1) bytes a sample; while weights are
    made, some 50 bytes a weight, of which a sample has 20 to 100; then 24 bytes a weight, and the blocks.
    Cosine takes a normalised copy of the features.
    """

    def __init__(
        self,
        queries: torch.Tensor,
        gallery: torch.Tensor,
        metric: str = "euclidean",
        settings: Reranking | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Encode all samples.

        Args:
            queries: ``[Q, D]`` floating point, on any device.
            gallery: ``[G, D]``, same dtype and device.
            metric: ``"euclidean"`` or ``"cosine"``.
            settings: None for the defaults.
            progress: shows a bar.

        Raises:
            ValueError: for another metric.
        """
        if metric not in TEST_DISTANCES:
            raise ValueError(f"metric must be one of {', '.join(TEST_DISTANCES)}, got {metric!r}")
        settings = settings or Reranking()
        samples = _samples(queries, gallery, metric)
        count = len(queries)
        rows = FeatureRows.plain(samples.numpy())
        farthest = np.ones(count)
        if settings.form == RERANK_PAPER:
            self._weights, farthest = relative_encoding(rows, settings.k1, settings.k2, progress)
            # Of unit features, where the ranking is by cosine.
            self._original: DistanceBlocks = FeatureDistances(samples[:count], samples[count:])
        else:
            self._weights = reciprocal_encoding(rows, settings.k1, settings.k2, progress)
            self._original = FeatureDistances(samples[:count], samples[count:], metric, unit=True)
        self._scales = settings.share / farthest[:count]
        self._share = settings.share
        weights = self._weights
        self._by_column = entries_by_column(weights.starts, weights.columns, weights.weights)

    @property
    def shape(self) -> tuple[int, int]:
        """Q and G."""
        return self._original.shape

    def block(self, start: int, stop: int) -> np.ndarray:
        """Return the final distances ``[B, G]`` of some queries, in the precision of the original ones."""
        distances = self._original.block(start, stop)
        by_row = (self._weights.starts, self._weights.columns, self._weights.weights)
        queries, gallery = self.shape

        def make_worker():  # type: ignore[no-untyped-def]
            workspace, touched = np.zeros(gallery), np.empty(gallery, dtype=np.int64)

            def work(block: tuple[int, int]) -> None:
                _mix(
                    *block, start, queries, distances, self._scales, 1 - self._share,
                    by_row, self._by_column, workspace, touched,
                )  # fmt: skip

            return work

        run_blocks(row_blocks(len(distances), _ROWS), make_worker)
        return distances


def rerank_distances(
    queries: torch.Tensor,
    gallery: torch.Tensor,
    metric: Literal["euclidean", "cosine"] = "euclidean",
    settings: Reranking | None = None,
) -> np.ndarray:
    """Return all re-ranked distances ``[Q, G]`` float32: for sets that are small enough to hold them.

    Args:
        queries: as the other arguments, see :class:`RerankedDistances`.
        gallery: likewise.
        metric: likewise.
        settings: likewise.
    """
    distances = RerankedDistances(queries, gallery, metric, settings)
    out = np.empty(distances.shape, dtype=np.float32)
    for start, stop in row_blocks(len(queries), BLOCK_SIZE):
        out[start:stop] = distances.block(start, stop)
    return out


def _samples(queries: torch.Tensor, gallery: torch.Tensor, metric: str) -> torch.Tensor:
    """Return all features ``[N, D]`` on the processor, of one length where the ranking is by cosine.

    Views of one array, queries first, are not copied.
    """
    precision = torch.promote_types(gallery.dtype, torch.float32)
    queries, gallery = (part.detach().to("cpu", precision) for part in (queries, gallery))
    end = queries.data_ptr() + queries.nbytes
    together = queries.is_contiguous() and gallery.is_contiguous() and end == gallery.data_ptr()
    if together and queries.untyped_storage().data_ptr() == gallery.untyped_storage().data_ptr():
        size = (len(queries) + len(gallery), queries.shape[1])
        samples = queries.as_strided(size, queries.stride())
    else:
        samples = torch.cat([queries, gallery])
    return F.normalize(samples, dim=1) if metric == "cosine" else samples


@compiled(error_model="numpy")
def _mix(  # type: ignore[no-untyped-def]
    start, stop, first_query, queries, distances, scales, share, by_row, by_column, workspace, touched
):
    """Turn the original distances of rows start..stop-1 of a block into final ones, by eq. 12.

    Of a pair that shares no sample the Jaccard distance is 1.
    """
    starts, columns, weights = by_row
    column_starts, samples, values = by_column
    for row in range(start, stop):
        query, size = first_query + row, 0
        for entry in range(starts[query], starts[query + 1]):
            column, weight = columns[entry], weights[entry]
            begin, end = column_starts[column], column_starts[column + 1]
            begin += np.searchsorted(samples[begin:end], queries)
            for place in range(begin, end):
                image, least = samples[place] - queries, min(weight, values[place])
                if workspace[image] == 0 and least > 0:
                    touched[size] = image
                    size += 1
                workspace[image] += least
        scale, cells = scales[query], distances[row]
        for image in touched[:size]:
            # The Jaccard distance is 1 - s / (2 - s); in the workspace stays what it is less than 1.
            workspace[image] = share * min(workspace[image] / (2 - workspace[image]), 1.0)
        for image in range(len(cells)):
            cells[image] = (share - workspace[image]) + scale * cells[image]
        for image in touched[:size]:
            workspace[image] = 0
