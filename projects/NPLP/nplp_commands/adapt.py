"""Adapt a person re-identification model to your own cameras, from images that nobody has labelled."""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from nplp_commands import require_toolbox
from nplp_commands.configurations import method_overlays
from nplp_commands.parsing import OneLineParser, run_tool

if TYPE_CHECKING:
    from nplp.adapt.methods import NamedMethod
    from nplp.adapt.request import Request

MODULE = "nplp_commands.adapt"
EPILOG = """\
examples:
  crops in a folder for each camera, and a model that somebody else trained:
    nplp adapt --images crops --weights osnet_x0_25_msmt17.pth --output runs/site
  the camera is in the files' names (gate3_000123.jpg), and some 400 people went by:
    nplp adapt --images crops --camera-pattern '(?P<camera>[a-z]+\\d+)_' --people 400 \\
        --weights model.pth --output runs/site
  a table (CSV or Parquet) with columns path and cam_id; only show what would be done:
    nplp adapt --images crops.csv --columns camera=cam_id --weights model.pth --output runs/site --dry-run
  another method than the recommended settings:
    nplp adapt --images crops --weights model.pth --output runs/site --method cluster_contrast
  go on with a run that was stopped (Ctrl-C, a signal, a crash, a power cut):
    nplp adapt --resume --output runs/site

`nplp doctor` looks at the images first. Every setting is chosen from the images and the machine, and shown
with its reason; KEY VALUE pairs change any of them. In --output are then: bundle/ (the model, model.onnx, its
card), index/ (for `nplp search`), report.html, results.json, the log, and what --resume needs.
"""


def build_parser() -> OneLineParser:
    """Return the parser."""
    parser = OneLineParser(prog="nplp adapt", description=__doc__, epilog=EPILOG)
    data = parser.add_argument_group("images")
    data.add_argument(
        "--images",
        default="",
        metavar="SOURCE",
        help="a folder (a sub-folder a camera), a table with columns path and camera, or the name of a data "
        "set that the toolbox knows",
    )
    data.add_argument(
        "--camera-pattern", default="", metavar="REGEX", help="finds (?P<camera>...) in the path of an image"
    )
    data.add_argument(
        "--columns",
        nargs="+",
        default=[],
        metavar="NAME=COLUMN",
        help="how the table calls path, camera, identity, split, track or time",
    )
    data.add_argument(
        "--skip-unreadable",
        action="store_true",
        help="leave out images that cannot be read, and say which (default: stop)",
    )
    data.add_argument(
        "--people", type=int, default=0, metavar="N", help="how many people there are, where you have a guess"
    )
    model = parser.add_argument_group("model")
    model.add_argument(
        "--weights", default="", metavar="FILE", help="the model to begin with: weights, checkpoint or bundle"
    )
    model.add_argument(
        "--method",
        default="",
        metavar="NAME",
        help="a method in place of the recommended settings: "
        + (", ".join(method_overlays()) or "there is none"),
    )
    run = parser.add_argument_group("run")
    run.add_argument("--output", required=True, metavar="DIR", help="the folder of the run")
    run.add_argument("--iterations", type=int, default=None, metavar="N", help="iterations at most")
    run.add_argument("--seed", type=int, default=None, metavar="N", help="of all that is drawn (default: 0)")
    run.add_argument("--dry-run", action="store_true", help="show settings and expected time, and end")
    run.add_argument("--resume", action="store_true", help="go on with the run in --output")
    run.add_argument(
        "--overwrite",
        action="store_true",
        help="remove an earlier run in --output (default: keep it in DIR/earlier_runs)",
    )
    run.add_argument(
        "--num-gpus",
        type=int,
        default=1,
        metavar="N",
        help="GPUs to use; without CUDA, processes (default: 1)",
    )
    made = parser.add_argument_group("what is made of the model")
    made.add_argument("--no-onnx", action="store_true", help="no ONNX program in the bundle")
    made.add_argument("--no-index", action="store_true", help="no index for nplp search")
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="change keys of the configuration"
    )
    return parser


def run_process(args: argparse.Namespace) -> None:
    """Run one process of the adaptation.

    Raises:
        UserError: for a mistake in the images, the weights or the options.
    """
    from nplp.adapt.run import Products, adapt, resume
    from nplp_commands.stopping import stoppable

    products = Products(onnx=not args.no_onnx, index=not args.no_index)
    with stoppable("nplp adapt", how_to_go_on(args)):
        if args.resume:
            resume(args.output, _options(args), products)
        else:
            adapt(_request(args), products, overwrite=args.overwrite, dry_run=args.dry_run)


def _request(args: argparse.Namespace) -> "Request":
    """Return what the command line asks for."""
    from nplp.adapt.request import Request

    return Request(
        images=args.images,
        weights=args.weights,
        output=args.output,
        camera_pattern=args.camera_pattern,
        columns=tuple(args.columns),
        people=args.people,
        skip_unreadable=args.skip_unreadable,
        options=_options(args),
        method=_method(args.method),
    )


def _method(name: str) -> "NamedMethod | None":
    """Return the method of a name; none for the recommended settings.

    Raises:
        UserError: if there is none, with the names there are.
    """
    from nplp.adapt.methods import NamedMethod
    from nplp.errors import UserError

    overlays = method_overlays()
    if name and name not in overlays:
        raise UserError(f"--method must be one of {', '.join(overlays)}, got {name!r}")
    return NamedMethod(name, str(overlays[name])) if name else None


def _options(args: argparse.Namespace) -> list[str]:
    """Return the keys and values that options and pairs name; where both do, the pairs hold."""
    given = {"SEED": args.seed, "NPLP.ITERATIONS": args.iterations}
    pairs = [word for key, value in given.items() if value is not None for word in (key, str(value))]
    return [*pairs, *args.opts]


def how_to_go_on(args: argparse.Namespace) -> str:
    """Return what to type to go on after an interruption."""
    if args.dry_run:
        return ""
    command = shlex.join(["nplp", "adapt", "--resume", "--output", args.output])
    return f"; what was saved is kept, go on with\n  {command}"


def main(args: argparse.Namespace) -> None:
    """Check the options, start the processes and wait for them.

    Raises:
        UserError: for a mistake in the options, or one that a process found.
    """
    from nplp.errors import UserError

    if args.resume and (args.overwrite or args.dry_run):
        other = "--overwrite" if args.overwrite else "--dry-run"
        raise UserError(f"--resume goes on with the run in --output, {other} begins one: leave one out")
    begun_with = ("images", "camera_pattern", "columns", "skip_unreadable", "people", "weights", "method")
    if args.resume and (given := [name for name in begun_with if getattr(args, name)]):
        option = "--" + given[0].replace("_", "-")
        raise UserError(f"--resume takes images and model from the run itself, got {option}: leave it out")
    for option, given in (("--images", args.images), ("--weights", args.weights)):
        if not given and not args.resume:
            raise UserError(f"{option} is missing: name one, or go on with a run by --resume")
    if args.num_gpus < 1:
        raise UserError(f"--num-gpus must be at least 1, got {args.num_gpus}")
    if Path(args.output).is_file():
        raise UserError(f"--output {args.output!r} is a file: name a folder")
    require_toolbox()
    import torch

    from nplp.distributed.processes import launch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    launch(run_process, args.num_gpus, 1, 0, "auto", (args,), device)


def command_line() -> None:
    """Parse the command line and do what it asks for."""
    run_tool(build_parser(), main, user_errors_alone=True, how_to_go_on=how_to_go_on)


if __name__ == "__main__":
    command_line()
