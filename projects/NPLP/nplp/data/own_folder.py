r"""Images in a folder, with cameras by sub-folder, by a pattern or by the names of a benchmark's files.

A relative path is that of an image within the folder, with ``/`` between its parts.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from nplp.data.benchmarks import FOLDERS, JUNK, NO_NAME, PERSON_AND_CAMERA, image_files
from nplp.data.image_table import ImageTable
from nplp.data.items import Subset, describe_left_out
from nplp.data.own_values import SECONDS_BEFORE_BAR, TIME, identity_of, seconds_of, track_of
from nplp.errors import UserError

__all__ = ["read_image_folder"]

SPLIT_OF_FOLDER = {split: split for split in FOLDERS} | {folder: split for split, folder in FOLDERS.items()}
"""The split that a first-level folder of a benchmark's layout holds."""
OF_MARKET = {FOLDERS["train"], FOLDERS["gallery"]}
"""Folders that no camera is called."""
NEARLY_SPLITS = {*FOLDERS, "test", "val", "valid", "validation"}
"""Names that are those of splits, not of cameras, where there are no others."""

TOP = "beside the folders of the cameras"
NO_MATCH = "whose paths the camera pattern does not match"
NO_SPLIT = "in no folder of a split"


@dataclass
class _Row:
    path: str
    relative: str
    split: str | None = None
    camera: str | None = None
    identity: str | None = None
    track: str | None = None
    time: float = np.nan


@dataclass
class _Found:
    """The images of a folder so far: rows, what was left out, and how the cameras were found."""

    folder: str
    rows: list[_Row]
    left_out: Subset = field(default_factory=lambda: Subset([]))
    how: list[str] = field(default_factory=list)

    def keep(self, reason: str, test: Callable[[_Row], bool]) -> None:
        """Keep the rows for which ``test`` holds, and count the others."""
        kept = []
        for row in self.rows:
            if test(row):
                kept.append(row)
            else:
                self.left_out.leave_out(reason, row.path)
        self.rows = kept


def read_image_folder(folder: str, pattern: re.Pattern[str] | None = None) -> ImageTable:
    """Return the images in a folder and in those below it, of every format that Pillow decodes.

    Folders named as a benchmark's (``train``, ``query``, ``gallery``; ``bounding_box_train``,
    ``bounding_box_test``) are splits where no others are beside them. The cameras are found by the first of
    these that applies:

    1. the pattern; images that it does not match are left out;
    2. in a benchmark's layout: names as ``0002_c1_anything.jpg``, with identity and camera, where at least
       half of the images are named so;
    3. the first-level folder, below that of the split where there is one. Images beside such folders are left
       out, unless they are the majority, which is an error.

    Otherwise cameras are unknown.

    Args:
        folder: taken literally.
        pattern: as :func:`nplp.config.own_images.compile_camera_pattern` returns it.

    Raises:
        UserError: if the folder cannot be listed or holds no image, or its cameras cannot be told.
    """
    found = _Found(folder, [])
    listing = tqdm(
        image_files(folder, found.left_out),
        desc="Listing images",
        unit="image",
        leave=False,
        disable=None,
        delay=SECONDS_BEFORE_BAR,
    )
    paths = sorted(listing)
    found.rows = [_Row(path, os.path.relpath(path, folder).replace(os.sep, "/")) for path in paths]
    _require_rows(found)
    has_splits = _take_splits(found, pattern is not None)
    if pattern is not None:
        _take_pattern(found, pattern)
    elif has_splits and 2 * sum(_named(row) is not None for row in found.rows) >= len(found.rows):
        _take_names(found)
    else:
        _take_folders(found, depth=int(has_splits))
    _require_rows(found)
    return _table(found)


def _take_splits(found: _Found, has_pattern: bool) -> bool:
    """Set the splits of a benchmark's layout, if it is one."""
    first_level = {_parts(row)[0] for row in found.rows if len(_parts(row)) > 1}
    is_market = bool(first_level & OF_MARKET)
    if not first_level or not (is_market or first_level <= set(SPLIT_OF_FOLDER)):
        if first_level and first_level <= NEARLY_SPLITS and not has_pattern:
            raise UserError(
                f"the folders in {found.folder!r} are named as splits, not as cameras "
                f"({', '.join(sorted(first_level))}): name them train, query and gallery, or give a camera "
                "pattern, or a table"
            )
        return False
    found.keep(NO_SPLIT, lambda row: len(_parts(row)) > 1 and _parts(row)[0] in SPLIT_OF_FOLDER)
    for row in found.rows:
        row.split = SPLIT_OF_FOLDER[_parts(row)[0]]
    splits = sorted({_parts(row)[0] for row in found.rows})
    found.how.append(f"splits by folder ({', '.join(splits)})")
    return True


def _take_pattern(found: _Found, pattern: re.Pattern[str]) -> None:
    example = found.rows[0].relative
    groups = pattern.groupindex
    for row in found.rows:
        match = pattern.search(row.relative)
        if match is None or not match["camera"]:
            continue
        row.camera = match["camera"]
        row.identity = identity_of(match["identity"]) if "identity" in groups else None
        row.track = track_of(match["track"]) if "track" in groups else None
        try:
            row.time = seconds_of(match["time"]) if "time" in groups else np.nan
        except (ValueError, OverflowError) as error:
            raise UserError(
                f"the camera pattern {pattern.pattern!r} finds the time {match['time']!r} in "
                f"{row.relative!r}: {TIME}"
            ) from error
    found.keep(NO_MATCH, lambda row: row.camera is not None)
    if not found.rows:
        raise UserError(
            f"the camera pattern {pattern.pattern!r} matches no image in {found.folder!r}: it is searched in "
            f"paths such as {example!r}"
        )
    found.how.append(f"cameras by the pattern {pattern.pattern!r}")


def _take_names(found: _Found) -> None:
    """Take identity and camera from names as Market-1501 has them."""
    found.keep(NO_NAME, lambda row: _named(row) is not None)
    for row in found.rows:
        match = _named(row)
        assert match is not None
        row.identity = None if match[1].startswith("-") else match[1]
        row.camera = f"c{match[2]}"
    found.keep(JUNK, lambda row: row.split == "train" or row.identity is not None)
    found.how.append("people and cameras by the files' names")


def _take_folders(found: _Found, depth: int) -> None:
    """Take the folders at a depth, 0 for the first level, as cameras where there are any."""
    above = [row for row in found.rows if len(_parts(row)) == depth + 1]
    count = len(found.rows)
    if len(above) == count:
        return
    if 2 * len(above) > count:
        raise UserError(
            f"{len(above):,} of {count:,} images in {found.folder!r} lie beside the folders of the cameras, "
            f"first {above[0].relative!r}: move them into a folder for each camera, or give a camera pattern"
        )
    found.keep(TOP, lambda row: len(_parts(row)) > depth + 1)
    for row in found.rows:
        row.camera = _parts(row)[depth]
    found.how.append("cameras by sub-folder")


def _parts(row: _Row) -> list[str]:
    return row.relative.split("/")


def _named(row: _Row) -> re.Match[str] | None:
    return PERSON_AND_CAMERA.match(os.path.basename(row.path))


def _require_rows(found: _Found) -> None:
    if not found.rows:
        raise UserError(
            f"{found.folder!r} holds no image that can be used{describe_left_out(found.left_out)}: give a "
            "folder with images in it or in its sub-folders"
        )


def _table(found: _Found) -> ImageTable:
    rows = found.rows
    tracks = [row.track for row in rows]
    times = np.array([row.time for row in rows])
    return ImageTable(
        paths=[row.path for row in rows],
        cameras=_unless_unknown([row.camera for row in rows]),
        identities=_unless_unknown([row.identity for row in rows]),
        splits=_unless_unknown([row.split for row in rows]),
        tracks=_unless_unknown(tracks),
        times=None if np.isnan(times).all() else times,
        left_out=found.left_out.left_out,
        source=", ".join([repr(found.folder), *found.how]),
    )


def _unless_unknown(values: list) -> list | None:
    """Return the values; ``None`` where all are."""
    return None if all(value is None for value in values) else values
