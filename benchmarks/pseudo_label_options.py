"""The options of the pseudo-label benchmark, checked."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from clustered_features import WORST
from nplp.circumstances import usable_cores

__all__ = ["parsed"]

USUAL_DISTANCES = ("jaccard", "euclidean")
DISTANCES = (*USUAL_DISTANCES, "camera_jaccard")


def size(text: str) -> tuple[int, int]:
    """Return N and D of a text like 12936x1024.

    Raises:
        argparse.ArgumentTypeError: if it is not one, or N or D is too small.
    """
    count, _, dimension = text.partition("x")
    if not (count.isdecimal() and dimension.isdecimal() and int(count) >= 2 and int(dimension) >= 1):
        raise argparse.ArgumentTypeError(f"a size must be like 12936x1024, at least 2x1, got {text!r}")
    return int(count), int(dimension)


def positive(text: str) -> int:
    """Return an integer of at least 1.

    Raises:
        argparse.ArgumentTypeError: if it is not one.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1, got {text!r}")
    return int(text)


def fraction(text: str) -> float:
    """Return a number in (0, 1].

    Raises:
        argparse.ArgumentTypeError: if it is not one.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be in (0, 1], got {text!r}")
    return value


def parsed(arguments: Sequence[str] | None, description: str) -> argparse.Namespace:
    """Return the checked options; ends the process with status 2 where they are not usable.

    Args:
        arguments: of the command line; None for this process's.
        description: what --help says first.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    sizes = [(12936, 1024), (32621, 1024)]
    add(
        "--sizes",
        type=size,
        nargs="*",
        default=sizes,
        metavar="NxD",
        help="sizes of the clustered features (default: 12936x1024 32621x1024); none: leave them out",
    )
    add(
        "--distances",
        nargs="+",
        choices=DISTANCES,
        default=list(USUAL_DISTANCES),
        help=f"default: {' '.join(USUAL_DISTANCES)}",
    )
    add(
        "--relative-to",
        choices=DISTANCES,
        metavar="DISTANCE",
        help="also print the time and memory of the other distances relative to this one of --distances",
    )
    add("--repeats", type=positive, default=5, help="rounds to take the median of (default: 5)")
    add("--threads", type=positive, default=usable_cores(), help="default: all cores, %(default)s here")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="where the features are (default: cpu)")
    add("--alpha", type=fraction, help="of eq. 4, for the clustered features (default: 0.9 / identities)")
    add("--float32", action="store_true", help="multiply in float32 only, as where there is no AMX")
    add("--seed", type=int, default=0, help="of the features (default: 0)")
    add("--usual", action="store_true", help="also run the usual way, on the CPU, where it fits in memory")
    add("--worst", action="store_true", help="also run the worst cases, in limited memory (Linux, CPU)")
    add("--worst-size", type=size, default=(20000, 256), metavar="NxD", help="default: 20000x256")
    add(
        "--worst-cases",
        nargs="+",
        choices=list(WORST),
        default=list(WORST),
        metavar="CASE",
        help=f"default: all of {', '.join(repr(name) for name in WORST)}".replace("%", "%%"),
    )
    add("--allowance", type=positive, default=600, metavar="MB", help="of a worst case (default: 600)")
    add("--output", type=Path, help="also write all raw figures there, as JSON")
    args = parser.parse_args(arguments)
    _check(parser, args)
    return args


def _check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End the process with one line and status 2 where the options do not go together."""
    if args.seed < 0:
        parser.error(f"--seed must be at least 0, got {args.seed}")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda needs a GPU that torch can use, and there is none: leave it out")
    if args.output is not None and args.output.is_dir():
        parser.error(f"--output must be a file, {args.output} is a folder: add a name, as in figures.json")
    if args.relative_to is not None and not {args.relative_to} < set(args.distances):
        parser.error(
            f"--relative-to must be one of two --distances or more, got {args.relative_to} of "
            f"{', '.join(args.distances)}: add it or another to --distances"
        )
    unusual = set(args.distances) - set(USUAL_DISTANCES)
    if args.usual and unusual:
        parser.error(f"--usual is not there for {', '.join(sorted(unusual))}: leave one of them out")
    if not args.sizes and not args.worst:
        parser.error("nothing to measure: give --sizes a size or add --worst")
    if args.worst:
        matrix = 4 * args.worst_size[0] ** 2 / 2**20
        if sys.platform != "linux" or args.device != "cpu":
            parser.error("--worst needs Linux and --device cpu, where memory can be limited: leave it out")
        if matrix < 2 * args.allowance:
            parser.error(
                f"--allowance must be at most half of an N x N array, {matrix:.0f} MB at --worst-size "
                f"{args.worst_size[0]}x{args.worst_size[1]}, got {args.allowance}: the array might fit"
            )
