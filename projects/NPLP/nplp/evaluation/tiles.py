"""Distances of queries and gallery, some queries at a time, and what reads them.

The whole Q x G matrix is never there. A pass makes each block of distances once and gives it to every reader.

Shapes: Q queries, G gallery images, D feature dimensions, B queries in a block.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn import functional as F

from nplp.evaluation.protocol import Labels
from nplp.memory import ShrinkingBlocks
from nplp.metric_names import TEST_DISTANCES
from nplp.products import keeps_float32

__all__ = [
    "BLOCK_SIZE",
    "DistanceBlocks",
    "FeatureDistances",
    "GivenDistances",
    "Reader",
    "check_features",
    "read_blocks",
]

BLOCK_SIZE = 128


class DistanceBlocks(Protocol):
    """Distances ``[Q, G]`` that are made in blocks of queries."""

    @property
    def shape(self) -> tuple[int, int]:
        """Q and G."""

    def block(self, start: int, stop: int) -> np.ndarray:
        """Return the distances ``[B, G]`` of the queries from ``start`` to ``stop``; the caller's own."""


class Reader(Protocol):
    """Reads blocks of distances in the queries' order."""

    def read(self, distances: np.ndarray, labels: Labels) -> Any:
        """Return what is read off the distances ``[B, G]``; must change nothing, as it may come again."""

    def keep(self, found: Any) -> None:
        """Keep what was read off a block, once for each query."""


def read_blocks(
    distances: DistanceBlocks, labels: Labels, readers: Sequence[Reader], block_size: int = BLOCK_SIZE
) -> None:
    """Make each block of distances once and give it to all readers.

    Args:
        distances: ``[Q, G]``.
        labels: of the queries and the gallery.
        readers: none of them changes the distances.
        block_size: queries at a time, B; fewer where memory does not suffice.

    Memory: the block, and what the readers take for one.
    """

    def read(start: int, stop: int) -> list[Any]:
        block, part = distances.block(start, stop), labels.of_queries(start, stop)
        return [reader.read(block, part) for reader in readers]

    def keep(found: list[Any]) -> None:
        for reader, result in zip(readers, found, strict=True):
            reader.keep(result)

    ShrinkingBlocks("Ranking", block_size).run(distances.shape[0], read, keep)


class GivenDistances:
    """A matrix ``[Q, G]`` of any real type that is there already."""

    def __init__(self, matrix: np.ndarray) -> None:
        self._matrix = matrix

    @property
    def shape(self) -> tuple[int, int]:
        """Q and G."""
        queries, gallery = self._matrix.shape
        return queries, gallery

    def block(self, start: int, stop: int) -> np.ndarray:
        """Return a part of the matrix."""
        return self._matrix[start:stop]


class FeatureDistances:
    """fastreid's distances of features, with the same operations in the features' precision.

    The squared Euclidean distance ``|q|^2 + |g|^2 - 2 q.g``, or ``1 - q.g / (|q| |g|)``; in float32 at the
    least.

    Memory: none beyond the features; cosine takes normalised copies of them.
    """

    def __init__(
        self, queries: torch.Tensor, gallery: torch.Tensor, metric: str = "euclidean", unit: bool = False
    ) -> None:
        """Prepare the features.

        Args:
            queries: ``[Q, D]`` floating point, on any device.
            gallery: ``[G, D]``, same dtype and device.
            metric: ``"euclidean"`` or ``"cosine"``.
            unit: whether the features are of length 1 already, so that cosine copies nothing.

        Raises:
            ValueError: for another metric.
        """
        if metric not in TEST_DISTANCES:
            raise ValueError(f"metric must be one of {', '.join(TEST_DISTANCES)}, got {metric!r}")
        precision = torch.promote_types(gallery.dtype, torch.float32)
        if precision == torch.float32 and not keeps_float32(gallery.device):
            # The caller lets torch shorten products of float32, such as by TF32, which would change rankings.
            precision = torch.float64
        queries, gallery = queries.detach().to(precision), gallery.detach().to(precision)
        if metric == "cosine" and not unit:
            queries, gallery = F.normalize(queries, dim=1), F.normalize(gallery, dim=1)
        self._queries, self._gallery = queries, gallery
        self._squares = gallery.pow(2).sum(dim=1)[None, :] if metric == "euclidean" else None

    @property
    def shape(self) -> tuple[int, int]:
        """Q and G."""
        return len(self._queries), len(self._gallery)

    def block(self, start: int, stop: int) -> np.ndarray:
        """Return the distances ``[B, G]`` of some queries."""
        return _distances(self._queries[start:stop], self._gallery, self._squares).cpu().numpy()


def _distances(queries: torch.Tensor, gallery: torch.Tensor, squares: torch.Tensor | None) -> torch.Tensor:
    """Return ``[B, G]`` squared Euclidean distances; without ``squares``, cosine ones of unit features."""
    if squares is None:
        return 1 - queries @ gallery.t()
    sums = queries.pow(2).sum(dim=1, keepdim=True) + squares
    return sums.addmm_(queries, gallery.t(), beta=1, alpha=-2)


def check_features(features: torch.Tensor, rows: int, name: str) -> None:
    """Check that features are finite and ``[rows, D]``.

    Raises:
        ValueError: if not, with the ``name`` of the argument.
    """
    if features.ndim != 2 or len(features) != rows:
        raise ValueError(
            f"{name} must have shape [{rows}, D] for these identities, got {list(features.shape)}"
        )
    if not torch.isfinite(features).all():
        broken = int((~torch.isfinite(features)).any(dim=1).sum())
        raise ValueError(
            f"{name} must be finite, got {broken} of {rows} rows with infinite or missing values"
        )
