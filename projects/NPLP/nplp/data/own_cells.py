"""The cells of a table in a CSV, TSV or Parquet file, as text and by our names of the columns."""

import codecs
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from nplp.config.own_images import IMAGE_COLUMNS
from nplp.errors import UserError

__all__ = ["Cells", "read_cells", "read_text_table"]

PARQUET = ".parquet"
IDS = ("camera", "identity", "track")

SEPARATORS = (",", ";", "\t", "|")
WHOLE = re.compile(r"([+-]?\d+)(\.0*)?", re.ASCII)
"""A whole number, perhaps as a column of floating-point numbers shows it."""
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Cells:
    """The cells of a table's columns that are ours, of N rows that are numbered from 0.

    Attributes:
        path: the table.
        columns: by our names, [N] texts each; ``None`` for an empty cell.
        unread: the table's names of its other columns.
        place: says in words where a row is: the line of a text file, or the row from 1 of a Parquet file.
    """

    path: str
    columns: Mapping[str, Sequence[str | None]]
    unread: Sequence[str]
    place: Callable[[int], str]


def read_cells(path: str, columns: Mapping[str, str]) -> Cells:
    """Return the cells of our columns; lines without a cell are left out.

    Args:
        path: of a file that ends on one of :data:`nplp.config.own_images.TABLE_SUFFIXES`.
        columns: what the table calls our columns.

    Raises:
        UserError: if the file cannot be read, has no row, or lacks a column that is asked for.
    """
    is_parquet = os.path.splitext(path)[1].lower() == PARQUET
    try:
        frame = pl.read_parquet(path, glob=False) if is_parquet else read_text_table(path)
    except pl.exceptions.NoDataError as error:
        raise UserError(f"{path!r} has no row: it must have one for each image") from error
    # Damaged files make polars panic, too.
    except (OSError, ValueError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        remedy = "save it again" if is_parquet else "save it again as CSV in UTF-8"
        raise UserError(f"{path!r} cannot be read ({_reason(error)}): {remedy}") from error
    numbers = np.arange(frame.height)
    if not is_parquet and frame.width:
        numbers = np.flatnonzero(~frame.select(pl.all_horizontal(pl.all().is_null())).to_series().to_numpy())
    if not len(numbers):
        raise UserError(f"{path!r} has no row: it must have one for each image")
    found = _find_columns(path, frame.columns, columns)
    cells = {ours: _texts(path, frame[theirs].gather(numbers)) for ours, theirs in found.items()}
    cells.update({ours: _without_point(cells[ours]) for ours in IDS if ours in cells})

    def place(row: int) -> str:
        number = int(numbers[row])
        if is_parquet:
            return f"row {number + 1}"
        # A quoted cell may go over several lines.
        breaks = frame.head(number).select(pl.all().str.count_matches("\n").sum()).row(0)
        return f"line {number + 2 + sum(count or 0 for count in breaks)}"

    unread = [name for name in frame.columns if name not in found.values()]
    return Cells(path, cells, unread, place)


def read_text_table(path: str) -> pl.DataFrame:
    """Return a text file's cells, all as text without spaces around it; ``None`` for empty ones.

    The first line has the columns' names. The separator is that of , ; tab and | which it has most of.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is not text, or has two columns of a name.
        PolarsError: if it is no table.
    """
    with open(path, "rb") as file:
        content = file.read()
    text = content.decode("utf-16" if content.startswith(UTF_16) else "utf-8-sig")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        raise ValueError("it is not text")
    header = re.sub(r'"[^"]*"', "", text.partition("\n")[0])
    separator = max(SEPARATORS, key=header.count)
    frame = pl.read_csv(text.encode("utf-8"), has_header=False, infer_schema=False, separator=separator)
    names = [(name or "").strip() for name in frame.row(0)]
    twice = [name for name in names if name and names.count(name) > 1]
    if twice:
        raise ValueError(f"it has two columns {twice[0]!r}")
    body = frame.slice(1).with_columns(pl.all().str.strip_chars())
    body = body.with_columns(pl.when(pl.all() != "").then(pl.all()))
    return body.rename({old: new or old for old, new in zip(frame.columns, names, strict=True)})


def _reason(error: BaseException) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not text in UTF-8"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:100]


def _find_columns(path: str, names: Sequence[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Return ``{our column: the table's}`` of those that are there.

    Raises:
        UserError: if one that is named, or ``path``, is not there.
    """
    listed = ", ".join(map(repr, names))
    found = {}
    for ours in IMAGE_COLUMNS:
        named = columns.get(ours)
        alike = [name for name in names if name.lower() == ours and name not in columns.values()]
        if named is None and len(alike) > 1:
            raise UserError(f"{path!r} has the columns {' and '.join(map(repr, alike))}: leave one out")
        if named is not None and named not in names:
            raise UserError(f"{path!r} has no column {named!r} for {ours}: its columns are {listed}")
        if named is not None or alike:
            found[ours] = alike[0] if named is None else named
    if "path" not in found:
        raise UserError(
            f"{path!r} has no column path: its columns are {listed}; say which of them it is, as in "
            f"path={names[0]}"
        )
    return found


def _texts(path: str, column: pl.Series) -> list[str | None]:
    """Return a column's cells as text, ``None`` for those that are empty.

    Raises:
        UserError: if it holds lists, bytes or the like.
    """
    kind = column.dtype
    if kind.is_nested() or kind in (pl.Binary, pl.Object):
        raise UserError(f"{path!r}: the column {column.name!r} holds {kind}: it must hold text or numbers")
    if kind.is_temporal():
        return _seconds(column)
    if kind.is_float():
        return [None if cell is None or np.isnan(cell) else _shortest(cell) for cell in column.to_list()]
    return [text or None for text in column.cast(pl.String).str.strip_chars().to_list()]


def _shortest(number: float) -> str:
    return str(int(number)) if number.is_integer() else repr(number)


def _seconds(column: pl.Series) -> list[str | None]:
    """Return dates, times and durations as seconds, in text."""
    if column.dtype == pl.Date:
        column = column.cast(pl.Datetime("us"))
    if isinstance(column.dtype, pl.Datetime):
        whole = column.dt.epoch("us")
    elif column.dtype == pl.Time:
        whole = column.cast(pl.Int64) // 1000
    else:
        whole = column.dt.total_microseconds()
    return [None if cell is None else repr(cell / 1e6) for cell in whole.to_list()]


def _without_point(ids: list[str | None]) -> list[str | None]:
    """Return ids without the ``.0`` of a column that holds whole numbers alone."""
    if all(text is None or WHOLE.fullmatch(text) for text in ids):
        return [None if text is None else text.partition(".")[0] for text in ids]
    return ids
