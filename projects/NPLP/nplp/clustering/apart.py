"""A cluster split such that components which must stay apart are in different parts.

Shapes: M images of the cluster in C components, D values of a feature.
"""

from __future__ import annotations

import numpy as np

from nplp.clustering.joining import Groups
from nplp.clustering.sweep import FeatureRows

__all__ = ["split_apart"]

_TIE_DECIMALS = 9
_BLOCK = 4096


def split_apart(
    rows: FeatureRows, members: np.ndarray, components: np.ndarray, cannot: np.ndarray
) -> np.ndarray:
    """Return the parts of a cluster's images: average linkage of its components, under constraints.

    Each component begins as a part. Of all two parts that hold no two components which must stay apart, the
    nearest are joined, until there are none. The distance of two parts is the mean squared Euclidean distance
    between the images of the one and of the other, rounded to 9 decimals; of several nearest pairs the one
    with the lowest component goes first, by its own and then by its partner's lowest component.

    Args:
        rows: features of all samples.
        members: [M] int64, the cluster's samples.
        components: [M] int64, the component of each.
        cannot: [E, 2] int64, pairs of these components that must stay apart.

    Returns:
        [M] int64, the part of each image, 0.. in the order of their lowest components. Memory: D float64 for
        each component, 2 E entries and blocks of rows; no C x C array. Time: about C^2 D.
    """
    names, places = np.unique(components, return_inverse=True)
    places = places.reshape(-1)
    parts = _Parts(rows, members, places, len(names))
    for first, second in np.searchsorted(names, cannot).tolist():
        parts.groups.keep_apart(first, second)
    parts.join_all()
    roots = parts.groups.roots()
    return np.unique(roots, return_inverse=True)[1].reshape(-1)[places].astype(np.int64)


class _Parts:
    """Parts of a cluster, each with its nearest other part that it may be joined with.

    With average linkage a joined part is no nearer to any third one than the nearer of the two was, so that
    only parts whose nearest one was joined must look for another.
    """

    def __init__(self, rows: FeatureRows, members: np.ndarray, places: np.ndarray, count: int) -> None:
        self.groups = Groups(count)
        self._sizes = np.bincount(places, minlength=count).astype(np.float64)
        self._sums = np.zeros((count, rows.dimension))
        self._squares = np.zeros(count)
        for start in range(0, len(members), _BLOCK):
            block = slice(start, start + _BLOCK)
            values = rows.rows(members[block])
            np.add.at(self._sums, places[block], values)
            np.add.at(self._squares, places[block], (values**2).sum(axis=1))
        self._alive = np.ones(count, dtype=bool)
        self._nearest = np.full(count, -1, dtype=np.int64)
        self._distance = np.full(count, np.inf)

    def join_all(self) -> None:
        """Join parts until none may be joined."""
        for part in range(len(self._alive)):
            self._look(part)
        while np.isfinite(self._distance).any():
            first = int(self._distance.argmin())
            self._join(*sorted((first, int(self._nearest[first]))))

    def _join(self, kept: int, gone: int) -> None:
        self.groups.join((kept, gone))
        for values in (self._sizes, self._sums, self._squares):
            values[kept] += values[gone]
        self._alive[gone] = False
        self._distance[gone] = np.inf
        for part in np.flatnonzero(self._alive & np.isin(self._nearest, (kept, gone))):
            self._look(int(part))
        self._look(kept)

    def _look(self, part: int) -> None:
        """Find the nearest part that one may be joined with; an infinite distance where there is none."""
        others = self._alive.copy()
        others[[part, *self.groups.apart_from(part)]] = False
        places = np.flatnonzero(others)
        self._nearest[part], self._distance[part] = -1, np.inf
        if len(places):
            products = self._sums[places] @ self._sums[part] / (self._sizes[places] * self._sizes[part])
            spreads = self._squares[places] / self._sizes[places] + self._squares[part] / self._sizes[part]
            distances = np.round(spreads - 2 * products, _TIE_DECIMALS)
            best = int(distances.argmin())
            self._nearest[part], self._distance[part] = places[best], distances[best]
