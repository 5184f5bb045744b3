"""List, describe, verify and publish the bundles of a model zoo."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nplp_commands import require_toolbox
from nplp_commands.parsing import OneLineParser, run_tool

if TYPE_CHECKING:
    from nplp.weights.zoo import Bundle

EPILOG = """\
examples:
  python tools/model_zoo.py list                    the bundles in zoo, or in the folder that NPLP_ZOO names
  python tools/model_zoo.py list zoo --markdown     the same as a table for MODEL_ZOO.md
  python tools/model_zoo.py info nplp_quickstart_R18
  python tools/model_zoo.py verify zoo              sums, weights, programs, and the metrics measured again
  python tools/model_zoo.py verify zoo/nplp_quickstart_R18 --no-evaluate
  python tools/model_zoo.py verify zoo --trust      run programs of torch.export too
  python tools/model_zoo.py info zoo://https://example.org/models/nplp_quickstart_R18
  python tools/model_zoo.py push zoo/nplp_quickstart_R18 --output hub/nplp_quickstart_R18 --to OWNER/NAME

Where a name stands, https://HOST/FOLDER/NAME and hf://OWNER/NAME (pip install 'nplp[hub]') may stand too, and
wherever weights are named zoo:// before them. Each file is downloaded when it is first needed, compared with
the bundle's sums and kept in the folder that NPLP_CACHE names.
push writes the bundle with what the Hugging Face hub reads from a model card; with --to it uploads that.

A bundle may come from a stranger. Loading a program of torch.export (model.pt2) runs what code the file
holds; it is loaded with --trust alone, which is meant for bundles of people whom you trust. The other files
run no code, and of config.yaml only what describes the model and its evaluation is taken.

verify shows a line for each thing: ok, BAD, or -- for a program that was not run, with how to run it.
Exit code:
  0  all is as recorded
  1  something is not as recorded
  2  there is no such bundle, or the command line is wrong
  3  what was looked at is as recorded, but a program was not run
"""

MARKS = {True: "ok ", False: "BAD", None: "-- "}


def build_parser() -> OneLineParser:
    """Return the parser."""
    parser = OneLineParser(prog="model_zoo", description=__doc__, epilog=EPILOG)
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|info|verify|push")
    listing = actions.add_parser("list", help="a line a bundle")
    listing.add_argument("--markdown", action="store_true", help="in the table form of MODEL_ZOO.md")
    info = actions.add_parser("info", help="the model card")
    verify = actions.add_parser("verify", help="compare files, programs and metrics with what is recorded")
    verify.add_argument("--no-evaluate", action="store_true", help="do not measure the metrics again")
    verify.add_argument(
        "--trust", action="store_true", help="run programs of torch.export too, which may hold any code"
    )
    verify.add_argument(
        "--tolerance",
        type=float,
        default=0.1,
        metavar="POINTS",
        help="by how many percentage points a metric may differ (default: 0.1)",
    )
    push = actions.add_parser("push", help="write a bundle for the Hugging Face hub, and upload it")
    push.add_argument("--output", required=True, type=Path, metavar="DIR", help="a new folder for it")
    push.add_argument(
        "--to", default="", metavar="OWNER/NAME", help="where to upload it (default: not at all)"
    )
    push.add_argument("--private", action="store_true", help="where --to is new, let others not see it")
    for action, text in (
        (push, "a bundle's folder or its name in the zoo"),
        (listing, "a folder of bundles, or a bundle (default: NPLP_ZOO, else zoo)"),
        (info, "a bundle's folder or its name in the zoo"),
        (verify, "a folder of bundles, a bundle, or its name (default: NPLP_ZOO, else zoo)"),
    ):
        action.add_argument("where", nargs=None if action in (info, push) else "?", default="", help=text)
    return parser


def find(where: str) -> list[Bundle]:
    """Return the bundles that a word on the command line means.

    Raises:
        UserError: if there is none.
    """
    from nplp.weights.zoo import bundles_in, find_bundle, zoo_folder

    # On Windows an address is no path that could be asked for.
    if where and ("://" in where or not Path(where).exists()):
        return [find_bundle(where.removeprefix("zoo://"))]
    return bundles_in(Path(where) if where else zoo_folder())


def show(text: str) -> None:
    """Write what may be a stranger's text and a line's end."""
    from nplp.errors import printable

    sys.stdout.write(f"{printable(text)}\n")
    sys.stdout.flush()


def row_of(bundle: Bundle) -> str:
    """Return a bundle's row for MODEL_ZOO.md.

    Raises:
        UserError: if it is something else than one row.
    """
    from nplp.errors import UserError
    from nplp.export.bundle import ROW
    from nplp.export.card import ZOO_HEADER

    row = bundle.text(ROW).strip()
    if len(row.splitlines()) != 1 or row.count("|") != ZOO_HEADER[0].count("|"):
        raise UserError(f"{str(bundle.folder / ROW)!r} is not a row of the table: export the bundle again")
    return row


def show_list(args: argparse.Namespace) -> int:
    """Write a line a bundle."""
    from tabulate import tabulate

    from nplp.export.card import ZOO_HEADER
    from nplp.weights.zoo import WEIGHTS

    bundles = find(args.where)
    if args.markdown:
        show("\n".join([*ZOO_HEADER, *map(row_of, bundles)]))
        return 0
    table = []
    for bundle in bundles:
        results = bundle.results()
        size = bundle.path(WEIGHTS).stat().st_size / 1e6
        final = results.get("final", {"Rank-1": "-", "mAP": "-"})
        programs = ", ".join(results.get("programs", {})) or "-"
        table.append([bundle.name, final["Rank-1"], final["mAP"], f"{size:.1f} MB", programs])
    show(tabulate(table, headers=["", "Rank-1", "mAP", "weights", "programs"], floatfmt=".2f"))
    return 0


def show_info(args: argparse.Namespace) -> int:
    """Write a bundle's model card."""
    from nplp.weights.zoo import CARD

    for bundle in find(args.where):
        show(bundle.text(CARD).rstrip("\n"))
    return 0


def verify(args: argparse.Namespace) -> int:
    """Look at each bundle; return 1 if something is not as recorded, 3 if a program was not run."""
    from nplp.errors import UserError
    from nplp.export.verification import verify_bundle

    if args.tolerance < 0:
        raise UserError(f"--tolerance must be at least 0, got {args.tolerance}")
    seen = set()
    for bundle in find(args.where):
        show(bundle.name)
        for check in verify_bundle(bundle, args.tolerance, not args.no_evaluate, args.trust):
            seen.add(check.good)
            show(f"  {MARKS[check.good]} {check.what}: {check.found}")
    if False in seen:
        return 1
    return 3 if None in seen else 0


def push(args: argparse.Namespace) -> int:
    """Write a bundle as the hub expects it, and upload it where that was asked for."""
    from nplp.export.hub import push_bundle, write_for_hub

    (bundle,) = find(args.where)
    folder = write_for_hub(bundle, args.output)
    show(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
    if args.to:
        show(push_bundle(folder, args.to, args.private))
    return 0


def main(args: argparse.Namespace) -> int:
    """Do what was asked for and return the exit code.

    Raises:
        UserError: if there is no such bundle, or it cannot be read.
    """
    require_toolbox()
    return {"list": show_list, "info": show_info, "verify": verify, "push": push}[args.action](args)


def command_line() -> None:
    """Parse the command line and do what it asks for."""
    run_tool(build_parser(), main)


if __name__ == "__main__":
    command_line()
