"""Embed images: write the features of a folder or a table of images into a file."""

import argparse
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
what is written, as numpy.load reads it without pickle:
  paths     [N] text, the image files
  features  [N, D] float32, as the model's evaluation has them; compare them by cosine
  cameras   [N] text, where cameras are known
  model     what made the features, a line of text

examples:
  nplp embed --model runs/site --images crops/ --output embeddings.npz
  a bundle by its name in the zoo (NPLP_ZOO), a table, a camera's column of another name:
    nplp embed --model zoo://nplp_d2m_R50 --images crops.csv --columns camera=cam_id --output embeddings.npz
"""


def build_parser() -> OneLineParser:
    """Return the parser."""
    parser = OneLineParser(prog="nplp embed", description=__doc__, epilog=EPILOG)
    add_model_options(parser)
    add_image_options(parser)
    group = parser.add_argument_group("output")
    group.add_argument("--output", required=True, type=Path, metavar="FILE.npz", help="what to write")
    group.add_argument("--overwrite", action="store_true", help="replace that file")
    return parser


def main(args: argparse.Namespace) -> None:
    """Embed and write.

    Raises:
        UserError: for a mistake in an option or a file.
    """
    require_search()
    from nplp.search.outputs import check_output, write_embeddings

    check_output(args.output, ".npz", "--output", args.overwrite)
    table = read_images(args)
    model = load(args.model, args)
    paths, cameras, features = embed_table(model, table, args)
    write_embeddings(args.output, paths, features, cameras, model.description)
    say(f"{args.output}: {len(paths):,} images, {model.dim} values each, by {model.description}")


def command_line() -> None:
    """Parse the command line and do what it asks for."""
    run_tool(build_parser(), main)


if __name__ == "__main__":
    command_line()
