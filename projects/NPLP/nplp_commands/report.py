"""Write the page of an adaptation: what happened, to be looked at in any browser."""

import argparse
import sys
import time
from pathlib import Path

from nplp_commands import require_toolbox
from nplp_commands.parsing import OneLineParser, run_tool

EPILOG = """\
examples:
  the quickstart's page again:
    python tools/report.py logs/quickstart
  while a run goes on, whenever it has finished an iteration (Ctrl-C ends the watching, not the run):
    python tools/report.py logs/nplp/d2m --watch

Writes report.html (one file, no network needed) and figures/*.png, *.svg into the folder. A run writes its
page at its end by itself, unless NPLP.REPORT is False.
"""
PAUSE = 5.0
"""Seconds between two looks at a run."""

REFRESH = 30
"""Seconds after which an open page loads itself again while a run is watched."""


def build_parser() -> OneLineParser:
    """Return the parser."""
    parser = OneLineParser(prog="report", description=__doc__, epilog=EPILOG)
    parser.add_argument("folder", type=Path, metavar="OUTPUT_DIR", help="of a run that has begun")
    parser.add_argument("--watch", action="store_true", help="write the page anew as long as the run goes on")
    return parser


def stamp(folder: Path) -> tuple[int, ...]:
    """Return when the files that a page is made from were written."""
    paths = (folder / "results.json", folder / "pseudo_labels.jsonl")
    return tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in paths)


def main(args: argparse.Namespace) -> None:
    """Write the page once, or until the run has ended.

    Raises:
        UserError: if the folder is not one of a run.
    """
    require_toolbox()
    from nplp.report.page import write_report
    from nplp.report.reading import read_run

    while True:
        seen = stamp(args.folder)
        finished = read_run(args.folder).finished
        refresh = REFRESH if args.watch and not finished else 0
        sys.stdout.write(f"{write_report(args.folder, refresh)}\n")
        sys.stdout.flush()
        if not refresh:
            return
        while stamp(args.folder) == seen:
            time.sleep(PAUSE)


def command_line() -> None:
    """Parse the command line and do what it asks for."""
    run_tool(build_parser(), main)


if __name__ == "__main__":
    command_line()
