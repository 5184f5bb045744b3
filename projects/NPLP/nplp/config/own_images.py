"""What a table of own images may hold, and the options that read such images, checked.

:data:`IMAGE_COLUMNS` is the one definition of the table's schema: the reader, the options and the
documentation follow it.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from nplp.errors import UserError

__all__ = [
    "IMAGE_COLUMNS",
    "SPLITS",
    "TABLE_SUFFIXES",
    "ImageColumn",
    "check_columns",
    "compile_camera_pattern",
    "parse_columns",
    "schema_table",
]

SPLITS = ("train", "query", "gallery")
TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")


class ImageColumn(NamedTuple):
    """A column of a table of images.

    Attributes:
        holds: the values that it takes.
        empty: what an empty cell means; no cell is different where there is no such column.
        in_pattern: whether a camera pattern may have a group of the name.
    """

    holds: str
    empty: str
    in_pattern: bool


IMAGE_COLUMNS = {
    "path": ImageColumn(
        "the image file, relative to the table's folder or absolute, with / or \\ between folders",
        "an error",
        in_pattern=False,
    ),
    "camera": ImageColumn("any name or number", "an error, unless all cells are empty", in_pattern=True),
    "identity": ImageColumn(
        "any name or number of the person; -1 and unknown stand for nobody known", "nobody known", True
    ),
    "split": ImageColumn(
        f"{', '.join(SPLITS[:-1])} or {SPLITS[-1]}", "train, unless all cells are empty", in_pattern=False
    ),
    "track": ImageColumn(
        "any name or number of the track, unique within its camera; -1 stands for none",
        "an image of no track",
        in_pattern=True,
    ),
    "time": ImageColumn(
        "seconds from any origin, or an ISO 8601 date and time (UTC where it names no zone)",
        "not known",
        in_pattern=True,
    ),
}
"""The columns by their names. ``path`` alone must be there."""


def schema_table() -> str:
    """Return the schema as the rows of a table in Markdown."""
    rows = [("column", "holds", "an empty cell, or no such column"), ("---", "---", "---")]
    rows += [(f"`{name}`", column.holds, column.empty) for name, column in IMAGE_COLUMNS.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def compile_camera_pattern(pattern: str, option: str = "the camera pattern") -> re.Pattern[str]:
    r"""Return a regular expression whose group ``camera`` finds the camera in an image's path.

    Args:
        pattern: such as ``(?P<camera>c\d+)_``, with the group ``camera``; it may have ``identity``,
            ``track`` and ``time`` too.
        option: what the user calls it, for the message.

    Raises:
        UserError: if it is no regular expression, has no such group or has others.
    """
    groups = [name for name, column in IMAGE_COLUMNS.items() if column.in_pattern]
    try:
        compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise UserError(
            f"{option} {pattern!r} is no regular expression ({error}): write one such as "
            "'(?P<camera>c[0-9]+)_'"
        ) from error
    if "camera" not in compiled.groupindex:
        raise UserError(
            f"{option} {pattern!r} has no group named camera: put what tells the camera in (?P<camera>...), "
            "as in '(?P<camera>c[0-9]+)_'"
        )
    if others := [name for name in compiled.groupindex if name not in groups]:
        raise UserError(f"{option} {pattern!r} has a group named {others[0]}: there are {', '.join(groups)}")
    return compiled


def parse_columns(pairs: Iterable[str], option: str = "the columns") -> dict[str, str]:
    """Return ``{our column: the table's}`` of texts such as ``camera=cam_id``.

    Raises:
        UserError: if one has another form, or names a column of ours that there is not, or names one twice.
    """
    columns: dict[str, str] = {}
    for pair in pairs:
        ours, sign, theirs = (part.strip() for part in str(pair).partition("="))
        if not (ours and sign and theirs):
            raise UserError(
                f"{option} must be OURS=THEIRS, such as camera=cam_id, got {pair!r}; ours are "
                f"{', '.join(IMAGE_COLUMNS)}"
            )
        if ours in columns:
            raise UserError(f"{option} name {ours} twice, {columns[ours]!r} and {theirs!r}: leave one out")
        columns[ours] = theirs
    check_columns(columns, option)
    return columns


def check_columns(columns: Mapping[str, str], option: str = "the columns") -> None:
    """Check that a mapping ``{our column: the table's}`` has keys among :data:`IMAGE_COLUMNS`.

    Raises:
        UserError: naming the first that is not.
    """
    for ours in columns:
        if ours not in IMAGE_COLUMNS:
            raise UserError(f"{option} give a column {ours!r}: ours are {', '.join(IMAGE_COLUMNS)}")
