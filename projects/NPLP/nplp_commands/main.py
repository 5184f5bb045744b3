"""The command ``nplp``: each of its sub-commands is a module of this package."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from nplp_commands.parsing import OneLineParser, run_tool

__all__ = ["COMMANDS", "command_line"]

COMMANDS = {
    "doctor": ("nplp_commands.doctor", "look at a data set: counts, damage, copies, what does not fit"),
    "train": ("nplp_commands.train", "pre-train, adapt, resume or evaluate by a configuration"),
    "cluster": ("nplp_commands.cluster", "pseudo-labels of embeddings in a file"),
    "export": ("nplp_commands.export", "write a trained model as a bundle, ONNX and other programs"),
    "crops": ("nplp_commands.crops", "cut the people of a tracker out of its frames"),
    "zoo": ("nplp_commands.zoo", "list, check and compare bundles"),
    "report": ("nplp_commands.report", "a page to look at a run"),
    "synthetic": ("nplp_commands.synthetic", "draw a camera network of synthetic people"),
    "reproduce": ("nplp_experiments.__main__", "the paper's tables and figures, from a checkout"),
}
"""Sub-commands in the order of the help: module with ``command_line``, and what it does."""


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "commands:\n" + "\n".join(lines) + "\n\nnplp COMMAND --help says more of each.\n"


def build_parser() -> OneLineParser:
    """Return the parser of the first word alone."""
    parser = OneLineParser(
        prog="nplp",
        usage="nplp COMMAND ...",
        description="Adapt a person re-identification model to cameras that nobody has labelled.",
        epilog=_help(),
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of those below")
    return parser


def command_line(argv: Sequence[str] | None = None) -> None:
    """Run the sub-command that the first word names, with the words after it."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser()

    def start(args: argparse.Namespace) -> None:
        sys.argv = [f"nplp {args.command}", *words[1:]]
        import_module(COMMANDS[args.command][0]).command_line()

    if not words:
        parser.print_help()
        return
    run_tool(parser, start, words[:1], user_errors_alone=True)


if __name__ == "__main__":
    command_line()
