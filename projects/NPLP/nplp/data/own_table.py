"""Images in a table, with a row an image.

Shapes: N rows, which are numbered from 0.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from nplp.config.own_images import SPLITS
from nplp.data.image_table import ImageTable
from nplp.data.own_cells import Cells, read_cells
from nplp.data.own_values import SECONDS_BEFORE_BAR, TIME, identity_of, seconds_of, track_of
from nplp.errors import UserError

__all__ = ["read_table_file"]

MISSING = "that the table names and that do not exist"

Value = TypeVar("Value")


def read_table_file(path: str, columns: Mapping[str, str], *, skip_missing: bool = False) -> ImageTable:
    """Return the images that a table names; :data:`nplp.config.own_images.IMAGE_COLUMNS` is its schema.

    Names of columns may be in small letters or capitals; those that are not in the schema are not read,
    which ``source`` says. Ids are text: ``0012`` stays so. Ids that are whole numbers throughout lose the
    point that an empty cell makes programs write, as in ``3.0``.

    Args:
        path: of a CSV, TSV or Parquet file, see :func:`nplp.data.own_cells.read_cells`.
        columns: what the table calls our columns.
        skip_missing: leave out and count rows whose files do not exist, which are an error by default.

    Raises:
        UserError: if the file cannot be read, is not as the schema says, names an image twice, or names none
            that exists.
    """
    cells = read_cells(path, columns)
    images = _parsed(cells, "path", _locate(os.path.dirname(path)), "name an image file", optional=False)
    assert images is not None
    where_unknown = "give each image its camera, or leave the column out where cameras are unknown"
    cameras = _parsed(cells, "camera", _not_empty, where_unknown)
    splits = _parsed(cells, "split", _split_of, f"it must be {', '.join(SPLITS)}, or empty for train")
    identities = _parsed(cells, "identity", identity_of)
    tracks = _parsed(cells, "track", track_of)
    times = _parsed(cells, "time", seconds_of, TIME)
    _refuse_twice(images, cells)
    kept, missing = _existing(images, cells, skip_missing)
    order = sorted(kept, key=images.__getitem__)
    unread = f" (columns not read: {', '.join(map(repr, cells.unread))})" if cells.unread else ""
    return ImageTable(
        paths=[images[row] for row in order],
        cameras=_chosen(cameras, order),
        identities=_chosen(identities, order),
        splits=_chosen(splits, order),
        tracks=_chosen(tracks, order),
        times=None if times is None or np.isnan(times).all() else np.array(times, dtype=np.float64)[order],
        left_out={MISSING: missing} if missing else {},
        source=f"the table {path!r}{unread}",
    )


def _parsed(
    cells: Cells, column: str, parse: Callable[[str | None], Value], should: str = "", optional: bool = True
) -> list[Value] | None:
    """Return a column's values; ``None`` where there is none, or where it is optional and empty throughout.

    Raises:
        UserError: naming the first cell of which ``parse`` makes a ``ValueError``.
    """
    texts = cells.columns.get(column)
    if texts is None or (optional and all(text is None for text in texts)):
        return None
    values: list[Value] = []
    try:
        for text in texts:
            values.append(parse(text))  # noqa: PERF401
    except (ValueError, OverflowError) as error:
        row = len(values)
        seen = "empty" if texts[row] is None else repr(texts[row])
        raise UserError(f"{cells.path!r}, {cells.place(row)}: {column} is {seen}: {should}") from error
    return values


def _chosen(values: list[Value] | None, order: Sequence[int]) -> list[Value] | None:
    """Return the values in an order; ``None`` where all are unknown."""
    if values is None or all(value is None for value in values):
        return None
    return [values[row] for row in order]


def _locate(folder: str) -> Callable[[str | None], str]:
    """Return what makes a table's path one that can be opened."""

    def locate(text: str | None) -> str:
        path = os.path.join(folder, _not_empty(text))
        if "\\" in path and not os.path.exists(path):
            path = os.path.join(folder, _not_empty(text).replace("\\", "/"))
        return os.path.normpath(path)

    return locate


def _not_empty(text: str | None) -> str:
    if text is None:
        raise ValueError("empty")
    return text


def _split_of(text: str | None) -> str:
    split = (text or SPLITS[0]).lower()
    if split not in SPLITS:
        raise ValueError(split)
    return split


def _refuse_twice(images: list[str], cells: Cells) -> None:
    first: dict[str, int] = {}
    for row, image in enumerate(images):
        if image in first:
            raise UserError(
                f"{cells.path!r}, {cells.place(row)}: {image!r} is there already, in "
                f"{cells.place(first[image])}: leave one of them out"
            )
        first[image] = row


def _existing(images: list[str], cells: Cells, skip_missing: bool) -> tuple[list[int], list[str]]:
    """Return the rows whose files exist, and the paths of those that do not.

    Raises:
        UserError: if there are such, unless they are to be left out; or if all are.
    """
    bar = tqdm(
        images,
        desc="Looking for the images",
        unit="image",
        leave=False,
        disable=None,
        delay=SECONDS_BEFORE_BAR,
    )
    exist = [os.path.isfile(image) for image in bar]
    kept = [row for row, there in enumerate(exist) if there]
    missing = [row for row, there in enumerate(exist) if not there]
    if missing and (not skip_missing or not kept):
        relative = not os.path.isabs(cells.columns["path"][missing[0]] or "")
        hint = "paths are relative to the table's folder; " if relative else ""
        skipping = ", or leave them out: nplp adapt --skip-unreadable, else DATASETS.SKIP_CORRUPT True"
        raise UserError(
            f"{len(missing):,} of the {len(images):,} images that {cells.path!r} names do not exist, first "
            f"{images[missing[0]]!r} in {cells.place(missing[0])}: {hint}put them there, or remove their rows"
            f"{skipping if kept else ''}"
        )
    return kept, [images[row] for row in missing]
