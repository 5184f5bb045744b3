"""Euclidean distances in blocks: a matrix product finds the pairs, differences settle the close calls.

Squared distances of a block come from one product of centred float64 rows. Its rounding error is bounded;
whatever that bound leaves open (which pair is the last of the smallest, which is just within epsilon, what
is left of two nearly equal samples) is decided by the differences of the features themselves.

Shapes: N samples, D dimensions, P pairs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from nplp.clustering.distances import EdgeBlock, clipped_mean, upper_tiles
from nplp.clustering.features import FeatureRows
from nplp.clustering.results import OUTLIER

__all__ = ["EuclideanDistances"]

_TILE_ROWS = 512
_TILE_COLUMNS = 2048
_UNIT_ROUNDOFF = 2.0**-53
_CANCELLED = 1e-7
"""A squared distance below this share of the squared norms has lost too many digits to be averaged."""


class EuclideanDistances:
    """Euclidean distances among the rows of features [N, D].

    Memory: a few float64 tiles of 512 x 2048, and the rows of one tile in float64. It does not grow with N
    but for the pairs that are averaged in eq. 4 (24 bytes each).
    """

    def __init__(self, features: FeatureRows) -> None:
        self._features = features
        self._origin = features.mean()
        self._norms = self._squared_norms()
        self._margin = self._error_bound()

    def __len__(self) -> int:
        return len(self._features)

    @property
    def margin(self) -> float:
        """Bound on the rounding error of a squared distance that a tile gives."""
        return self._margin

    def subset(self, members: np.ndarray) -> EuclideanDistances:
        """Return the distances among the samples `members` [M] int64."""
        return EuclideanDistances(self._features.subset(members))

    def all_within(self, epsilon: float) -> bool:
        """Return False: there is no greatest Euclidean distance."""
        del epsilon
        return False

    def exact(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return squared distances [P] of pairs from the differences of their features."""
        return self._features.squared_distances(first, second)

    def squared_tile(self, tile: tuple[int, int, int, int]) -> torch.Tensor:
        """Return squared distances of a tile as float64 on the features' device, correct to `margin`."""
        row, row_stop, column, column_stop = tile
        rows = self._features.block(row, row_stop, self._origin)
        columns = self._features.block(column, column_stop, self._origin)
        squared = torch.addmm(self._norms[column:column_stop], rows, columns.T, alpha=-2)
        return squared.add_(self._norms[row:row_stop, None])

    def mean_of_smallest(self, camera_ids: np.ndarray | None, count: int) -> float:
        """Return the mean of the `count` smallest distances; see `Distances.mean_of_smallest`."""
        smallest = _SmallestPairs(count, self)
        cameras = None if camera_ids is None else torch.from_numpy(camera_ids).to(self._norms.device)
        for tile in upper_tiles(len(self), _TILE_ROWS, _TILE_COLUMNS):
            squared = self.squared_tile(tile)
            keep = (squared <= smallest.bound).logical_and_(_above_diagonal(tile, squared.device))
            if cameras is not None:
                keep &= cameras[tile[0] : tile[1], None] != cameras[tile[2] : tile[3]]
            smallest.add(*_pairs_of(keep, tile), squared[keep].cpu().numpy())
        return clipped_mean(smallest.distances())

    def edges_within(self, epsilon: float) -> Iterator[EdgeBlock]:
        """Yield all pairs i < j within `epsilon` in blocks; see `Distances.edges_within`."""
        limit = epsilon * epsilon
        # The rounding of the square is relative to it; the margin is relative to the norms.
        slack = self._margin + 8 * _UNIT_ROUNDOFF * limit
        for tile in upper_tiles(len(self), _TILE_ROWS, _TILE_COLUMNS):
            squared = self.squared_tile(tile)
            keep = (squared <= limit + slack).logical_and_(_above_diagonal(tile, squared.device))
            first, second = _pairs_of(keep, tile)
            within = squared[keep].cpu().numpy() < limit - slack
            open_pairs = np.flatnonzero(~within)
            exact = self.exact(first[open_pairs], second[open_pairs])
            within[open_pairs] = np.sqrt(exact) <= epsilon
            yield first[within], second[within]

    def cluster_sums(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return sums to the own cluster and to all clustered samples; see `Distances.cluster_sums`."""
        own = np.zeros(len(self))
        total = np.zeros(len(self))
        members = np.flatnonzero(labels != OUTLIER)
        if len(members):
            clustered = self.subset(members)
            own[members], total[members] = clustered._sums(labels[members])
        return own, total

    def _sums(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return sums of distances [N] to the samples of the same label and to all samples."""
        groups = torch.from_numpy(labels).to(self._norms.device)
        own, total = torch.zeros_like(self._norms), torch.zeros_like(self._norms)
        for tile in upper_tiles(len(self), _TILE_ROWS, _TILE_COLUMNS):
            row, row_stop, column, column_stop = tile
            distance = self._distance_tile(tile).mul_(_above_diagonal(tile, groups.device))
            same = distance * (groups[row:row_stop, None] == groups[column:column_stop])
            for sums, values in ((total, distance), (own, same)):
                sums[row:row_stop] += values.sum(dim=1)
                sums[column:column_stop] += values.sum(dim=0)
        return own.cpu().numpy(), total.cpu().numpy()

    def _distance_tile(self, tile: tuple[int, int, int, int]) -> torch.Tensor:
        """Return the distances of a tile, those of nearly equal samples from their differences."""
        row, row_stop, column, column_stop = tile
        squared = self.squared_tile(tile)
        scale = self._norms[row:row_stop, None] + self._norms[column:column_stop]
        lost = (squared <= _CANCELLED * scale).logical_and_(_above_diagonal(tile, squared.device))
        if bool(lost.any()):
            exact = self.exact(*_pairs_of(lost, tile))
            squared[lost] = torch.from_numpy(exact).to(squared.device)
        return squared.clamp_(min=0).sqrt_()

    def _squared_norms(self) -> torch.Tensor:
        """Return the squared norms [N] float64 of the centred rows."""
        starts = range(0, len(self), _TILE_ROWS)
        blocks = (self._features.block(start, start + _TILE_ROWS, self._origin) for start in starts)
        return torch.cat([block.square().sum(dim=1) for block in blocks])

    def _error_bound(self) -> float:
        """Return a bound on |tile - exact| for squared distances.

        The product and the norms err by at most about (D + 4) u (|x| + |y|)^2 for unit roundoff u. To
        subtract the origin costs nothing more, being rounded relative to its result; but with an offset for
        each camera the sum of the two is rounded first, relative to itself and by cameras differently.
        """
        dimension = self._features.dimension
        radius = float(self._norms.max().sqrt())
        bound = 4 * (dimension + 8) * _UNIT_ROUNDOFF * radius**2
        if self._features.offsets is None:
            return bound
        largest = float(np.abs(self._features.offsets).max()) + float(np.abs(self._origin).max())
        shift = 4 * _UNIT_ROUNDOFF * dimension**0.5 * largest
        return bound + 4 * radius * shift + shift**2


class _SmallestPairs:
    """The `count` pairs of smallest distance among those added so far."""

    def __init__(self, count: int, distances: EuclideanDistances) -> None:
        self._count = count
        self._distances = distances
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._size = 0
        self.bound = np.inf

    def add(self, first: np.ndarray, second: np.ndarray, squared: np.ndarray) -> None:
        """Take pairs [P] with squared distances correct to the margin; drop what cannot be among them."""
        self._parts.append((first, second, squared))
        self._size += len(first)
        if self._size > 2 * self._count:
            self._trim()

    def distances(self) -> np.ndarray:
        """Return the `count` smallest distances [count] from the differences of the features."""
        first, second, _ = self._joined()
        exact = self._distances.exact(first, second)
        return np.sqrt(np.partition(exact, self._count - 1)[: self._count])

    def _joined(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        columns = [np.concatenate(column) for column in zip(*self._parts, strict=True)]
        return columns[0], columns[1], columns[2]

    def _trim(self) -> None:
        """Keep the pairs that can still be among the smallest.

        With errors of at most m on both sides, a pair beyond the approximate count-th smallest by more than
        2 m cannot be. Where that leaves many (equal distances by the thousand), exact distances decide.
        """
        first, second, squared = self._joined()
        bound = np.partition(squared, self._count - 1)[self._count - 1] + 2 * self._distances.margin
        self.bound = min(self.bound, float(bound))
        keep = np.flatnonzero(squared <= self.bound)
        if len(keep) > 1.5 * self._count:
            exact = self._distances.exact(first[keep], second[keep])
            nearest = np.argpartition(exact, self._count - 1)[: self._count]
            keep = keep[nearest]
            squared[keep] = exact[nearest]
        self._parts = [(first[keep], second[keep], squared[keep])]
        self._size = len(keep)


def _above_diagonal(tile: tuple[int, int, int, int], device: torch.device) -> torch.Tensor:
    """Return which pairs of a tile are i < j, as booleans that broadcast to its shape."""
    row, row_stop, column, column_stop = tile
    if column >= row_stop:
        return torch.ones(1, 1, dtype=torch.bool, device=device)
    rows = torch.arange(row, row_stop, device=device)
    return rows[:, None] < torch.arange(column, column_stop, device=device)


def _pairs_of(keep: torch.Tensor, tile: tuple[int, int, int, int]) -> EdgeBlock:
    """Return the samples of the pairs of a tile that are kept, in the order of boolean indexing."""
    first, second = keep.nonzero(as_tuple=True)
    return first.cpu().numpy() + tile[0], second.cpu().numpy() + tile[2]
