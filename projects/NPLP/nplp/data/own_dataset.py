"""Own images as the data set ``OwnImages``: which are trained on, and how the labelled ones are evaluated.

Shapes: N items.
"""

import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from fastreid.config import CfgNode

from nplp.config.choices import OWN_IMAGES
from nplp.config.own_images import parse_columns
from nplp.data.image_table import ImageTable
from nplp.data.items import UNKNOWN_IDENTITY, Item, Subset, describe_left_out
from nplp.data.own_images import read_image_table
from nplp.errors import UserError

__all__ = [
    "OWN_IMAGES",
    "UNKNOWN_CAMERA",
    "TracksAndTimes",
    "own_image_table",
    "own_subsets",
    "tracks_and_times",
    "tracks_of_items",
]

logger = logging.getLogger(__name__)

UNKNOWN_CAMERA = "unknown camera"
"""The camera of all images where nobody knows the cameras."""

NOBODY = "of nobody known"
QUERY_CAMERA, GALLERY_CAMERA = 0, 1
"""Made-up cameras of query and gallery where the real ones cannot tell matches: none is left out."""


class _Options(NamedTuple):
    """What tells which images a table is of."""

    source: str
    camera_pattern: str
    columns: tuple[str, ...]
    skip_missing: bool


class _Read(NamedTuple):
    """A table and when the files and folders that it was read from were changed."""

    table: ImageTable
    changed: dict[str, int]


_READ: dict[_Options, _Read] = {}
"""The table that was read last, as a run asks for it more than once."""


def own_image_table(cfg: CfgNode) -> ImageTable:
    """Return the images that ``DATASETS.OWN`` describes; see :func:`nplp.data.own_images.read_image_table`.

    It is read again only where ``DATASETS.OWN`` is another, or a folder or the table has changed since.

    Args:
        cfg: the configuration; with ``DATASETS.SKIP_CORRUPT``, rows of files that do not exist are left out.

    Raises:
        UserError: as :func:`nplp.data.own_images.read_image_table`, or if ``DATASETS.OWN.SOURCE`` is empty.
    """
    own = cfg.DATASETS.OWN
    # No shell has put the home folder in the place of ~ in a configuration.
    source = os.path.expanduser(own.SOURCE)
    options = _Options(source, own.CAMERA_PATTERN, tuple(own.COLUMNS), bool(cfg.DATASETS.SKIP_CORRUPT))
    if not options.source:
        raise UserError(f"DATASETS.OWN.SOURCE is empty: {OWN_IMAGES} needs a folder of images or a table")
    known = _READ.get(options)
    if known is not None and known.changed == _changes(known.changed):
        return known.table
    table = read_image_table(
        options.source,
        camera_pattern=options.camera_pattern,
        columns=parse_columns(options.columns, "DATASETS.OWN.COLUMNS"),
        skip_missing=options.skip_missing,
    )
    _warn_of_cameras(table)
    _READ.clear()
    _READ[options] = _Read(table, _changes(_places(options.source, table)))
    return table


def _places(source: str, table: ImageTable) -> set[str]:
    """Return the table's file, or the folder and those in it in which there are files."""
    if not os.path.isdir(source):
        return {source}
    places = {source}
    files = [*table.paths, *(path for paths in table.left_out.values() for path in paths)]
    for folder in {os.path.dirname(path) for path in files}:
        inner = folder
        while inner not in places and len(inner) > len(source):
            places.add(inner)
            inner = os.path.dirname(inner)
    return places


def _changes(places: Iterable[str]) -> dict[str, int]:
    """Return when each was changed, in ns; -1 where it is not there."""
    return {place: os.stat(place).st_mtime_ns if os.path.exists(place) else -1 for place in places}


def _warn_of_cameras(table: ImageTable) -> None:
    """Say what is lost where there are not two cameras."""
    if table.cameras is not None and len(set(table.cameras)) > 1:
        return
    what = "unknown" if table.cameras is None else f"one alone, {table.cameras[0]!r}"
    logger.warning(
        "%s: the cameras of the images in %s are %s. The radius (eq. 4) is averaged over all pairs, not "
        "over those of different cameras; what treats cameras (NPLP.CAMERA_CENTERING, TEST.CAMERAS, "
        "MODEL.NORM_CAMERAS and others) sees one camera and corrects nothing between cameras; figures count "
        "matches whatever their camera, so they are higher than those across cameras. docs/own_images.md "
        "says how cameras are named",
        OWN_IMAGES,
        table.source,
        what,
    )


def own_subsets(table: ImageTable, subsets: Sequence[str]) -> dict[str, Subset]:
    """Return the items of the training, query and gallery sets.

    Trained on are the images without a split and those of the split ``train``. Evaluated are those of
    ``query`` and ``gallery`` whose person is known. Where there are no splits at all, every labelled image
    is evaluated: see :func:`_split_labelled`.

    Evaluation leaves out matches of a query's own camera. Where there are not two cameras that would be all:
    queries and gallery then have made-up cameras, one each.

    Args:
        table: the images.
        subsets: of ``"train"``, ``"query"`` and ``"gallery"``.

    Raises:
        UserError: if query and gallery are asked for and no person is known.
    """
    tested = [subset for subset in subsets if subset != "train"]
    parts = _test_parts(table) if tested else {}
    return {
        subset: _training_set(table) if subset == "train" else _test_set(table, subset, parts[subset])
        for subset in subsets
    }


def _training_set(table: ImageTable) -> Subset:
    cameras, identities = _cameras(table), _identities(table)
    rows = [row for row in range(len(table)) if table.splits is None or table.splits[row] == "train"]
    items: list[Item] = [
        (table.paths[row], identities[row] or UNKNOWN_IDENTITY, cameras[row]) for row in rows
    ]
    return Subset(items, {reason: list(paths) for reason, paths in table.left_out.items()}, table.source)


def _test_set(table: ImageTable, subset: str, rows: list[int]) -> Subset:
    """Return the items of the query or the gallery set."""
    cameras, identities = _cameras(table), _identities(table)
    known = [row for row in rows if identities[row] is not None]
    made_up = len(set(cameras)) == 1
    number = QUERY_CAMERA if subset == "query" else GALLERY_CAMERA
    items: list[Item] = [
        (table.paths[row], identities[row], number if made_up else cameras[row]) for row in known
    ]
    source = table.source if table.splits is not None else f"{table.source}, {_how_split(made_up)}"
    found = Subset(items, source=source, camera_name=cameras[0] if made_up else "")
    if table.splits is not None:
        for row in rows:
            if identities[row] is None:
                found.leave_out(NOBODY, table.paths[row])
    return found


def _cameras(table: ImageTable) -> Sequence[str]:
    return [UNKNOWN_CAMERA] * len(table) if table.cameras is None else table.cameras


def _identities(table: ImageTable) -> Sequence[str | None]:
    return [None] * len(table) if table.identities is None else table.identities


def _test_parts(table: ImageTable) -> dict[str, list[int]]:
    """Return the rows of query and gallery."""
    if table.identities is None:
        raise UserError(
            f"{OWN_IMAGES}: no image in {table.source} has an identity, so nothing can be evaluated"
            f'{describe_left_out(Subset([], table.left_out))}: set DATASETS.TESTS "()", or label some images'
        )
    if table.splits is None:
        return _split_labelled(table)
    return {
        subset: [row for row, split in enumerate(table.splits) if split == subset]
        for subset in ("query", "gallery")
    }


def _how_split(made_up: bool) -> str:
    return (
        "of which every labelled image is evaluated, as no split is given: one query for each person"
        f"{'' if made_up else ' and camera'}, the middle one by path"
    )


def _split_labelled(table: ImageTable) -> dict[str, list[int]]:
    """Return the rows of query and gallery among all labelled images.

    A query is drawn of each person and camera, where the person is in two cameras or more: the middle image
    in the order of paths, as the first and the last of a track often show half a person. The others are the
    gallery. So is a query that is its camera's only image of the person: the queries of other cameras need
    it as a match, and its own camera is not counted for itself. People whom one camera saw are in the
    gallery alone.

    Without cameras a query is drawn of each person with two images or more.
    """
    cameras, identities = _cameras(table), _identities(table)
    has_cameras = len(set(cameras)) > 1
    views: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row in range(len(table)):
        person = identities[row]
        if person is not None:
            views[person][cameras[row]].append(row)
    query, gallery = [], []
    for by_camera in views.values():
        can_match = len(by_camera) > 1 if has_cameras else any(len(rows) > 1 for rows in by_camera.values())
        for rows in by_camera.values():
            drawn = [rows[len(rows) // 2]] if can_match else []
            query += drawn
            gallery += [row for row in rows if row not in drawn or len(rows) == 1]
    return {"query": sorted(query), "gallery": sorted(gallery)}


class TracksAndTimes(NamedTuple):
    """Of each item its track and its time.

    Attributes:
        tracks: [N] int64, 0 to T - 1 in the order of cameras and the tracks' names; -1 for no track.
        times: [N] float64 seconds from any origin; NaN where not known.
    """

    tracks: np.ndarray
    times: np.ndarray

    @classmethod
    def of(cls, names: Sequence[tuple[Any, ...] | None], times: Sequence[float]) -> "TracksAndTimes":
        """Number the tracks of ``N`` items in the order of their names; ``None`` stands for no track."""
        numbers = {name: number for number, name in enumerate(sorted({name for name in names if name}))}
        return cls(
            np.array([-1 if name is None else numbers[name] for name in names], dtype=np.int64),
            np.array(times, dtype=np.float64),
        )


def tracks_and_times(cfg: CfgNode, items: list[Item]) -> TracksAndTimes:
    """Return the tracks and times of training items, in their order; those of other data sets have none.

    The same name in two cameras is two tracks.

    Args:
        cfg: the configuration; ``DATASETS.OWN`` tells the images.
        items: N items, as :func:`nplp.data.datasets.load_training_items` returns them.

    Raises:
        UserError: as :func:`own_image_table`.
    """
    table = own_image_table(cfg)
    row_of = {path: row for row, path in enumerate(table.paths)}
    rows = [row_of.get(path, -1) for path, _, _ in items]
    cameras = _cameras(table)
    names = [None] * len(table) if table.tracks is None else table.tracks
    times = np.full(len(table), np.nan) if table.times is None else table.times
    return TracksAndTimes.of(
        [None if row < 0 or names[row] is None else (cameras[row], names[row]) for row in rows],
        [np.nan if row < 0 else times[row] for row in rows],
    )


def tracks_of_items(cfg: CfgNode, items: list[Item]) -> TracksAndTimes:
    """Return what :func:`tracks_and_times` does, but without times where cameras are unknown.

    Two tracks that overlap in time are two people in one camera alone.
    """
    found = tracks_and_times(cfg, items)
    if own_image_table(cfg).cameras is None:
        return found._replace(times=np.full(len(items), np.nan))
    return found
