"""Where the matches of a query come in its ranking, counted without sorting the gallery.

The position of a match is the number of gallery images that are nearer. A pass over a row of distances counts
them for a match, and a person has some tens of matches: that is much less work than a sort of the row. Where
an image of another person is at exactly the distance of a match, their order is that of a sort (see
:mod:`nplp.evaluation.ranking`), so that such a row is sorted.

Shapes: B queries in a block, G gallery images, M matches of the block.
"""

import numpy as np

from nplp.clustering.sweep import compiled, row_blocks, run_blocks
from nplp.evaluation.protocol import Labels

__all__ = ["match_positions"]

MOST_COUNTED = 100
"""From so many images of a query's identity on, a sort is faster than counting for each."""

_COUNTED = (np.float32, np.float64)
_ROWS = 16


def match_positions(distances: np.ndarray, labels: Labels) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the matches in each query's ranking, after the removal.

    Args:
        distances: ``[B, G]``, of any real type.
        labels: of these queries and the gallery.

    Returns:
        ``[M]`` int64 each: the row of a match, ascending, and its position from 0, ascending within a row.
    """
    if distances.dtype not in _COUNTED:
        return _sorted_positions(distances, labels)
    order = np.argsort(labels.gallery_ids, kind="stable")
    ids = labels.gallery_ids[order]
    first = np.searchsorted(ids, labels.query_ids, side="left")
    last = np.searchsorted(ids, labels.query_ids, side="right")
    counted = last - first <= MOST_COUNTED
    room = np.where(counted, last - first, 0)
    starts = np.concatenate([[0], np.cumsum(room)])
    positions, sizes = np.empty(starts[-1], dtype=np.int64), np.zeros(len(distances), dtype=np.int64)
    rows = np.ascontiguousarray(distances)
    members = (first, first + room, order)
    cameras = (labels.query_cameras, labels.gallery_cameras)

    def work(block: tuple[int, int]) -> None:
        _count(*block, rows, members, cameras, starts, positions, sizes)

    run_blocks(row_blocks(len(rows), _ROWS), lambda: work)
    inside = np.arange(len(positions)) - np.repeat(starts[:-1], room) < np.repeat(np.maximum(sizes, 0), room)
    found = np.repeat(np.arange(len(rows)), room)[inside], positions[inside]
    left = np.flatnonzero(~counted | (sizes < 0))
    if not len(left):
        return found
    part = labels._replace(query_ids=labels.query_ids[left], query_cameras=labels.query_cameras[left])
    numbers, others = _sorted_positions(rows[left], part)
    joined = np.concatenate([found[0], left[numbers]]), np.concatenate([found[1], others])
    by_row = np.argsort(joined[0], kind="stable")
    return joined[0][by_row], joined[1][by_row]


def _sorted_positions(distances: np.ndarray, labels: Labels) -> tuple[np.ndarray, np.ndarray]:
    """Return what :func:`match_positions` does, by sorting each row."""
    order = np.argsort(distances, axis=1)
    # Row by row, and within a row by position: nonzero's order.
    rows, positions = np.nonzero(labels.gallery_ids[order] == labels.query_ids[:, None])
    removed = labels.gallery_cameras[order[rows, positions]] == labels.query_cameras[rows]
    before = np.cumsum(removed) - removed
    removed_before = before - before[np.searchsorted(rows, rows)]
    return rows[~removed], (positions - removed_before)[~removed]


@compiled()
def _count(start, stop, distances, members, cameras, starts, positions, sizes):  # type: ignore[no-untyped-def]
    """Write the positions of rows start..stop-1 and how many they are; -1 for a row that must be sorted."""
    first, last, order = members
    query_cameras, gallery_cameras = cameras
    for row in range(start, stop):
        cells, images = distances[row], order[first[row] : last[row]]
        kept = 0
        matches = np.empty(len(images), dtype=distances.dtype)
        for image in images:
            if gallery_cameras[image] != query_cameras[row]:
                matches[kept] = cells[image]
                kept += 1
        matches = np.sort(matches[:kept])
        sizes[row] = kept
        for number in range(kept):
            value = matches[number]
            nearer, within = 0, 0
            for cell in cells:
                nearer += cell < value
                within += cell <= value
            # Those of the own identity count neither as nearer nor as equal.
            for image in images:
                nearer -= cells[image] < value
                within -= cells[image] <= value
            if within != nearer or np.isnan(value):
                sizes[row] = -1
                break
            positions[starts[row] + number] = nearer + number
