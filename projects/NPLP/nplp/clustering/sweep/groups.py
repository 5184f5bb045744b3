"""The order in which a sweep takes samples, group by group, and what that says of the pairs of a tile.

Shapes: N samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nplp.clustering.sweep.tiles import Tile

__all__ = ["Groups"]


@dataclass(frozen=True)
class Groups:
    """Samples in an order in which each group, a camera or all of them, is a range of places.

    Attributes:
        samples: [N] int64, the sample at each place, ascending within a group.
        starts: [N] int32, the first place of the group that a place belongs to.
        stops: [N] int32, the place after its last.
    """

    samples: np.ndarray
    starts: np.ndarray
    stops: np.ndarray

    @classmethod
    def single(cls, count: int) -> Groups:
        """Return N samples as one group, in their own order."""
        return cls(np.arange(count), np.zeros(count, dtype=np.int32), np.full(count, count, dtype=np.int32))

    @classmethod
    def by_camera(cls, camera_ids: np.ndarray) -> Groups:
        """Return a group for each camera of `camera_ids` [N]."""
        samples = np.argsort(camera_ids, kind="stable")
        sizes = np.unique(camera_ids, return_counts=True)[1]
        ends = np.cumsum(sizes)
        starts, stops = (np.repeat(part.astype(np.int32), sizes) for part in (ends - sizes, ends))
        return cls(samples, starts, stops)

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What the compiled kernels take: samples, starts and stops."""
        return self.samples, self.starts, self.stops

    def same(self, tile: Tile) -> bool | None:
        """Return whether the pairs of a tile are of one group: all, none (False) or some (None)."""
        rows, columns = ((self.starts[a], self.starts[b - 1]) for a, b in (tile[:2], tile[2:4]))
        if rows[1] < columns[0] or columns[1] < rows[0]:
            return False
        return True if rows == columns and rows[0] == rows[1] else None
