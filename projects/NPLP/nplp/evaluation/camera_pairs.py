"""What a ranking is worth for each pair of a query's camera and a gallery camera.

For cameras a and b, the queries of a search the gallery images of b alone. Those count whose identity b has
seen. With a = b nothing counts, because the protocol removes a person's images by the query's own camera.

Shapes: Q queries, G gallery images, C cameras, B queries in a block.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from tabulate import tabulate

from nplp.evaluation.protocol import Labels
from nplp.evaluation.ranking import score_block
from nplp.evaluation.tiles import BLOCK_SIZE, DistanceBlocks, read_blocks

__all__ = ["CameraPairReader", "CameraPairs", "evaluate_camera_pairs"]


@dataclass(frozen=True)
class CameraPairs:
    """Metrics by pairs of cameras; rows are the queries' cameras, columns the gallery's.

    Attributes:
        cameras: ``[C]`` int64, ascending: all that queries or gallery have.
        queries: ``[C, C]`` int64, how many queries have a match there.
        rank1: ``[C, C]`` float64, the share of them whose nearest image is a match; NaN where there are none.
        mean_ap: ``[C, C]`` float64, the mean of their average precision; NaN where there are none.
    """

    cameras: np.ndarray
    queries: np.ndarray
    rank1: np.ndarray
    mean_ap: np.ndarray

    def as_record(self, names: list[str]) -> dict[str, Any]:
        """Return lists for a JSON file, metrics in percent and ``None`` where no query counts.

        Args:
            names: of the C cameras.
        """

        def percent(values: np.ndarray) -> list[list[float | None]]:
            return [[None if np.isnan(cell) else 100 * float(cell) for cell in row] for row in values]

        return {
            "cameras": names,
            "queries": self.queries.tolist(),
            "Rank-1": percent(self.rank1),
            "mAP": percent(self.mean_ap),
        }

    def as_table(self, names: list[str]) -> str:
        """Return a table to be read: ``Rank-1 / mAP (queries)`` in each cell, in percent.

        Args:
            names: of the C cameras.
        """
        rows = [
            [
                name,
                *(
                    f"{100 * self.rank1[a, b]:.1f} / {100 * self.mean_ap[a, b]:.1f} ({self.queries[a, b]})"
                    if self.queries[a, b]
                    else "-"
                    for b in range(len(names))
                ),
            ]
            for a, name in enumerate(names)
        ]
        return tabulate(rows, ["query \\ gallery", *names], "simple", disable_numparse=True)


class CameraPairReader:
    """Reads the metrics of pairs of cameras off blocks of distances.

    Args:
        labels: of all queries and the gallery.

    Memory: a copy of the part of a block that is of one camera.
    """

    def __init__(self, labels: Labels) -> None:
        self.cameras = np.unique(np.concatenate([labels.query_cameras, labels.gallery_cameras]))
        self._members = [np.flatnonzero(labels.gallery_cameras == camera) for camera in self.cameras]
        count = len(self.cameras)
        self._sums = np.zeros((3, count, count))

    def read(self, distances: np.ndarray, labels: Labels) -> np.ndarray:
        """Return ``[3, C, C]``: queries, those matched first, and the sum of average precision."""
        sums = np.zeros_like(self._sums)
        rows = np.searchsorted(self.cameras, labels.query_cameras)
        for column, members in enumerate(self._members):
            scores = score_block(distances[:, members], labels.of_gallery(members))
            values = np.ones(len(scores.queries)), scores.first == 0, scores.average_precision
            for total, part in zip(sums, values, strict=True):
                np.add.at(total[:, column], rows[scores.queries], part)
        return sums

    def keep(self, found: np.ndarray) -> None:
        """Add what was read off a block."""
        self._sums += found

    def pairs(self) -> CameraPairs:
        """Return the metrics of all blocks."""
        queries, first, precision = self._sums
        none = np.full_like(queries, np.nan)
        rank1, mean_ap = (
            np.divide(total, queries, out=none.copy(), where=queries > 0) for total in (first, precision)
        )
        return CameraPairs(self.cameras, queries.astype(np.int64), rank1, mean_ap)


def evaluate_camera_pairs(
    distances: DistanceBlocks, labels: Labels, block_size: int = BLOCK_SIZE
) -> CameraPairs:
    """Return the metrics of each pair of a query's camera and a gallery camera.

    Args:
        distances: ``[Q, G]``.
        labels: of the queries and the gallery.
        block_size: queries at a time; fewer where memory does not suffice.
    """
    reader = CameraPairReader(labels)
    read_blocks(distances, labels, [reader], block_size)
    return reader.pairs()
