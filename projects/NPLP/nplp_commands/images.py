"""Options and steps of the commands that embed images: which model, which images, how."""

import argparse
import logging
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

from nplp_commands import require_toolbox

if TYPE_CHECKING:
    import numpy as np

    from nplp.data.image_table import ImageTable
    from nplp.search import Embedder

__all__ = [
    "MODEL_HELP",
    "add_image_options",
    "add_model_options",
    "embed_table",
    "load",
    "read_images",
    "say",
]

MODEL_HELP = (
    "a run's folder, a checkpoint, a bundle's folder or zoo://NAME, an .onnx program, or others' weights"
)


def add_model_options(parser: argparse.ArgumentParser, required: bool = True, default: str = "") -> None:
    """Add which model embeds, and how."""
    group = parser.add_argument_group("model")
    text = MODEL_HELP + (f" (default: {default})" if default else "")
    group.add_argument("--model", required=required, metavar="MODEL", help=text)
    group.add_argument("--device", default="", help="such as cpu or cuda:0 (default: a GPU if there is one)")
    group.add_argument("--batch", type=int, default=64, metavar="N", help="images at a time (default: 64)")


def add_image_options(parser: argparse.ArgumentParser) -> None:
    """Add which images are embedded."""
    group = parser.add_argument_group("images")
    group.add_argument(
        "--images",
        required=True,
        metavar="FOLDER|TABLE",
        help="a folder, with a sub-folder for each camera, or a table (.csv, .parquet) with the columns path "
        "and camera",
    )
    group.add_argument(
        "--camera-pattern",
        default="",
        metavar="RE",
        help="for a folder: a regular expression with the group (?P<camera>...), searched in each path",
    )
    group.add_argument(
        "--columns",
        nargs="+",
        default=[],
        metavar="OURS=THEIRS",
        help="for a table: what it calls our columns, such as path=file camera=cam_id",
    )
    group.add_argument(
        "--skip-unreadable", action="store_true", help="leave out images that cannot be read (default: stop)"
    )


def require_search() -> None:
    """Check that what embedding and searching need is installed.

    Raises:
        UserError: if it is not, with the command that installs it.
    """
    require_toolbox()
    from nplp.errors import UserError

    if find_spec("faiss") is None:
        raise UserError("faiss is not installed: pip install 'nplp[cpu]', or 'nplp[gpu]' for CUDA")


def load(source: str, args: argparse.Namespace) -> "Embedder":
    """Return the model, and say what it is.

    Raises:
        UserError: if there is none, or --batch is out of its range.
    """
    from nplp.errors import UserError
    from nplp.search import load_model

    if args.batch < 1:
        raise UserError(f"--batch must be at least 1, got {args.batch}")
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    return load_model(source, args.device)


def read_images(args: argparse.Namespace) -> "ImageTable":
    """Return the images of --images.

    Raises:
        UserError: if there are none, or an option does not fit.
    """
    from nplp.config.own_images import parse_columns
    from nplp.data.own_images import read_image_table

    columns = parse_columns(args.columns, "--columns")
    return read_image_table(args.images, camera_pattern=args.camera_pattern, columns=columns)


def embed_table(
    model: "Embedder", table: "ImageTable", args: argparse.Namespace
) -> tuple[list[str], list[str | None] | None, "np.ndarray"]:
    """Return paths, cameras and features [N, D] of the images that can be read.

    Raises:
        UserError: if one cannot be read, unless they are left out.
    """
    paths = list(table.paths)
    cameras: list[str | None] | None = None if table.cameras is None else list(table.cameras)
    if not args.skip_unreadable:
        return paths, cameras, model.embed(paths, cameras, args.batch)
    features, left_out = model.embed(paths, cameras, args.batch, skip_unreadable=True)
    for place, reason in left_out.items():
        say(f"left out: {paths[place]} ({reason})", sys.stderr.write)
    kept = [place for place in range(len(paths)) if place not in left_out]
    return [paths[i] for i in kept], cameras and [cameras[i] for i in kept], features


def say(text: str, write: object = None) -> None:
    """Write a line, which may hold a stranger's text, to the standard output."""
    from nplp.errors import printable

    (write if callable(write) else sys.stdout.write)(f"{printable(text)}\n")
