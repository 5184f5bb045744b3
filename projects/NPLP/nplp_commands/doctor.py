"""Look at a data set before hours are spent on it: counts, damage, copies, and what does not fit together."""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from nplp_commands import require_toolbox
from nplp_commands.parsing import OneLineParser, run_tool

__all__ = ["build_parser", "command_line", "main"]

EPILOG = """\
examples:
  a folder with a folder of crops for each camera:
    nplp doctor crops/
  cameras in the names of the files, such as 0012_c3_000123.jpg:
    nplp doctor crops/ --camera-pattern '_(?P<camera>c\\d+)_'
  a table whose columns are called otherwise:
    nplp doctor crops.csv --columns path=file camera=cam_id
  a benchmark under FASTREID_DATASETS, against its published counts:
    nplp doctor Market1501
  the errors alone, for a script:
    nplp doctor crops/ --json | jq '.findings[] | select(.severity == "error")'

A name of a registered data set wins over a folder of that name, which is ./NAME.
Each image is decoded once, about 2,000 crops of 128 x 64 a second on two cores: 40,000 take half a minute
with the comparison of all pairs for near duplicates. --quick decodes none.

Exit codes: 0 without errors in the data, 1 with errors, 2 for a mistake in the command. Warnings and notes
do not count. docs/doctor.md says what each code means.
"""


def build_parser() -> OneLineParser:
    """Return the parser."""
    parser = OneLineParser(prog="nplp doctor", description=__doc__, epilog=EPILOG, allow_abbrev=False)
    parser.add_argument(
        "data",
        metavar="DATA",
        help="a folder, a table (.csv, .tsv, .parquet), or a registered data set's name, such as Market1501, "
        "DukeMTMC, MSMT17, PKUReid, SynthPlaza",
    )
    reading = parser.add_argument_group("how own data are read")
    reading.add_argument(
        "--camera-pattern",
        default="",
        metavar="RE",
        help="for a folder: a regular expression with a group (?P<camera>...), searched in each path "
        "(default: a folder a camera)",
    )
    reading.add_argument(
        "--columns",
        nargs="+",
        default=[],
        metavar="OURS=THEIRS",
        help="for a table: what it calls path, camera, identity, split, track and time (default: the same)",
    )
    looking = parser.add_argument_group("what is looked at")
    looking.add_argument(
        "--quick", action="store_true", help="decode no image: no sizes, damage or duplicates"
    )
    looking.add_argument(
        "--no-duplicates", action="store_true", help="do not look for pictures that are there more than once"
    )
    looking.add_argument(
        "--workers", type=int, metavar="N", help="threads that decode images (default: one a core)"
    )
    out = parser.add_argument_group("what is written")
    out.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write JSON, into FILE beside the tables, or to the standard output instead of them; after DATA",
    )
    return parser


def main(args: argparse.Namespace) -> int:
    """Look at the data, and show or write what is found.

    Returns:
        1 where there are errors in the data, else 0.

    Raises:
        UserError: for a mistake in the command, or data that cannot be read at all.
    """
    require_toolbox()
    from nplp.data.doctor import examine
    from nplp.data.doctor.reading import read_data
    from nplp.data.doctor.showing import as_text
    from nplp.errors import UserError
    from nplp.files import write_bytes_atomically

    if args.workers is not None and args.workers < 1:
        raise UserError(f"--workers must be at least 1, got {args.workers}")
    read = read_data(args.data, args.camera_pattern, parse_columns(args.columns))
    findings = examine(
        read.table,
        read.name,
        read.findings,
        decode=not args.quick,
        duplicates=not args.no_duplicates,
        workers=args.workers,
    )
    # Escapes keep names in all alphabets, and such as are not of the system's encoding, safe on any terminal.
    content = json.dumps(findings.as_dict(), indent=2) + "\n"
    if args.json not in (None, "-"):
        write_bytes_atomically(Path(args.json), content.encode("ascii"), "choose another file for --json")
    if args.json == "-":
        sys.stdout.write(content)
    else:
        _write(as_text(findings, shutil.get_terminal_size((120, 24)).columns))
    return int(findings.has_errors)


def parse_columns(words: Sequence[str]) -> dict[str, str]:
    """Return ``{our column: the table's}`` of words such as ``camera=cam_id``.

    Raises:
        UserError: for a word of another form, or a column that is named twice.
    """
    from nplp.errors import UserError

    columns: dict[str, str] = {}
    for word in words:
        ours, equals, theirs = word.partition("=")
        if not (ours and equals and theirs):
            raise UserError(
                f"--columns takes OURS=THEIRS, such as camera=cam_id, got {word!r}; DATA comes before it"
            )
        if ours in columns:
            raise UserError(f"--columns names {ours} twice, as {columns[ours]!r} and {theirs!r}")
        columns[ours] = theirs
    return columns


def _write(text: str) -> None:
    """Write text to the standard output, with numbers in the place of letters that it has not."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))


def command_line() -> None:
    """Parse the command line and do what it asks for."""
    run_tool(build_parser(), main, user_errors_alone=True)


if __name__ == "__main__":
    command_line()
