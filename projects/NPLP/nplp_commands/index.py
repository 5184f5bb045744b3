"""Make an index of images, to search in: embed a gallery and keep it in a folder."""

import argparse
import os
from pathlib import Path

from nplp_commands.images import (
    add_image_options,
    add_model_options,
    embed_table,
    load,
    read_images,
    require_search,
    say,
)
from nplp_commands.parsing import OneLineParser, run_tool

__all__ = ["build_parser", "command_line", "main"]

EPILOG = """\
The folder gets index.json (paths, cameras, the model) and the vectors as faiss writes them.

examples:
  nplp index --model runs/site --images crops/ --output gallery
  the images of another day, by the model that the index was made with:
    nplp index --images crops/2026-11-28 --output gallery --add
  then:
    nplp search someone.jpg --index gallery
"""


def build_parser() -> OneLineParser:
    """Return the parser."""
    parser = OneLineParser(prog="nplp index", description=__doc__, epilog=EPILOG)
    add_model_options(parser, required=False, default="with --add that of the index")
    add_image_options(parser)
    group = parser.add_argument_group("output")
    group.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder of the index")
    group.add_argument(
        "--kind",
        choices=("exact", "hnsw"),
        default="exact",
        help="exact compares with every image; hnsw is for very many and misses a hit now and then "
        "(default: exact)",
    )
    change = group.add_mutually_exclusive_group()
    change.add_argument("--add", action="store_true", help="add to the index that is there")
    change.add_argument("--overwrite", action="store_true", help="replace the index that is there")
    return parser


def main(args: argparse.Namespace) -> None:
    """Embed and write.

    Raises:
        UserError: for a mistake in an option or a file.
    """
    require_search()
    from nplp.errors import UserError
    from nplp.search import Index
    from nplp.search.index import check_place

    index = Index.load(args.output) if args.add else None
    source = args.model or (index.model.get("source") if index else None)
    if not source:
        raise UserError("--model is missing: name what embeds the images")
    check_place(args.output, overwrite=args.overwrite or args.add)
    table = read_images(args)
    model = load(source, args)
    if index is not None:
        index.check_model(model)
    paths, cameras, features = embed_table(model, table, args)
    # Whole, so that a search finds them from any folder.
    paths = [os.path.abspath(path) for path in paths]
    if index is None:
        index = Index(features, paths, cameras, model, args.kind)
        new = len(paths)
    else:
        held = set(index.paths)
        kept = [place for place, path in enumerate(paths) if path not in held]
        index.add(features[kept], [paths[i] for i in kept], cameras and [cameras[i] for i in kept])
        new = len(kept)
    index.save(args.output, overwrite=True)
    say(f"{args.output}: {len(index):,} images, {new:,} of them new, by {index.model.get('description')}")


def command_line() -> None:
    """Parse the command line and do what it asks for."""
    run_tool(build_parser(), main)


if __name__ == "__main__":
    command_line()
