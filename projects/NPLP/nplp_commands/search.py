"""Search an index for the images that are most like a query."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from nplp_commands.images import add_model_options, load, require_search, say
from nplp_commands.parsing import OneLineParser, run_tool

if TYPE_CHECKING:
    from nplp.search import Hits

__all__ = ["build_parser", "command_line", "main"]

EPILOG = """\
similarity is the cosine of two features: 1 for the same image, and what is enough for the same person depends
on the model and the cameras. A query's own file is no hit.

examples:
  nplp index --model runs/site --images crops/ --output gallery
  nplp search someone.jpg --index gallery
  two queries by the camera gate, in the other cameras alone, and a page to look at:
    nplp search a.jpg b.jpg --index gallery --camera gate --other-cameras --top 20 --html hits.html
"""


def build_parser() -> OneLineParser:
    """Return the parser."""
    parser = OneLineParser(prog="nplp search", description=__doc__, epilog=EPILOG)
    parser.add_argument("queries", nargs="+", metavar="QUERY", help="image files")
    group = parser.add_argument_group("search")
    group.add_argument("--index", required=True, type=Path, metavar="DIR", help="what nplp index wrote")
    group.add_argument("--top", type=int, default=10, metavar="N", help="hits a query (default: 10)")
    group.add_argument("--camera", metavar="NAME", help="that took the queries (default: not known)")
    group.add_argument(
        "--other-cameras", action="store_true", help="leave out the images of --camera from the hits"
    )
    add_model_options(parser, required=False, default="that of the index")
    output = parser.add_argument_group("output")
    output.add_argument("--html", type=Path, metavar="FILE.html", help="write a page of the hits too")
    output.add_argument("--overwrite", action="store_true", help="replace that file")
    return parser


def main(args: argparse.Namespace) -> None:
    """Search and show.

    Raises:
        UserError: for a mistake in an option or a file.
    """
    require_search()
    from nplp.errors import UserError
    from nplp.files import write_atomically
    from nplp.search import Index
    from nplp.search.outputs import check_output

    if args.top < 1:
        raise UserError(f"--top must be at least 1, got {args.top}")
    if args.other_cameras and args.camera is None:
        raise UserError("--other-cameras needs the camera of the queries: name it by --camera")
    if args.html is not None:
        check_output(args.html, ".html", "--html", args.overwrite)
    missing = [query for query in args.queries if not os.path.isfile(query)]
    if missing:
        raise UserError(f"the query {missing[0]!r} is no file: name images")
    index = Index.load(args.index)
    source = args.model or index.model.get("source")
    if not source:
        raise UserError(f"{str(args.index)!r} does not say which model made it: name it by --model")
    model = load(source, args)
    index.check_model(model)
    cameras = None if args.camera is None else [args.camera] * len(args.queries)
    features = model.embed(args.queries, cameras, args.batch)
    # One more, for a query may be among the images.
    found = index.search(features, args.top + 1, cameras, args.other_cameras)
    hits = found.without(args.queries, args.top)
    show(args.queries, hits)
    if args.html is not None:
        from nplp.search.sheets import hit_sheet

        note = f"{len(index):,} images, by {model.description}."
        write_atomically(args.html, hit_sheet(args.queries, hits, note))
        say(f"{args.html}")


def show(queries: list[str], hits: "Hits") -> None:
    """Write a table of the hits of each query."""
    from tabulate import tabulate

    for place, query in enumerate(queries):
        found = zip(hits.similarity[place], hits.cameras[place], hits.paths[place], strict=False)
        rows = [
            (rank, f"{similarity:.4f}", camera or "-", os.path.relpath(path))
            for rank, (similarity, camera, path) in enumerate(found, start=1)
        ]
        say(f"{query}: {'no hits' if not rows else f'{len(rows)} hits'}")
        if rows:
            say(tabulate(rows, ("", "similarity", "camera", "image"), disable_numparse=True))


def command_line() -> None:
    """Parse the command line and do what it asks for."""
    run_tool(build_parser(), main)


if __name__ == "__main__":
    command_line()
