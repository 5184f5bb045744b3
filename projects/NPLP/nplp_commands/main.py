"""The command ``nplp``: each of its sub-commands is a module of this package."""

import argparse
import difflib
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nplp_commands.parsing import OneLineParser, run_tool

__all__ = ["COMMANDS", "GROUPS", "command_line"]

COMMANDS = {
    "doctor": ("nplp_commands.doctor", "look at a data set: counts, damage, copies, what does not fit"),
    "crops": ("nplp_commands.crops", "cut the people of a tracker out of its frames"),
    "adapt": ("nplp_commands.adapt", "from a folder of crops to a better model of your own cameras"),
    "embed": ("nplp_commands.embed", "features of the images in a folder or a table"),
    "index": ("nplp_commands.index", "a gallery of images, to search in"),
    "search": ("nplp_commands.search", "the images of a gallery that are most like a query"),
    "group": ("nplp_commands.group", "images sorted into people"),
    "train": ("nplp_commands.train", "pre-train, adapt, resume or evaluate by a configuration"),
    "cluster": ("nplp_commands.cluster", "pseudo-labels of embeddings in a file"),
    "export": ("nplp_commands.export", "write a trained model as a bundle, ONNX and other programs"),
    "zoo": ("nplp_commands.zoo", "list, check and compare bundles"),
    "report": ("nplp_commands.report", "a page to look at a run"),
    "env": ("nplp_commands.env", "versions and devices, for a report of a problem"),
    "compile": ("nplp_commands.compile", "what the first run would wait for, once after installing"),
    "synthetic": ("nplp_commands.synthetic", "draw a camera network of synthetic people"),
    "reproduce": ("nplp_experiments.__main__", "the paper's tables and figures"),
}
"""Sub-commands by name: module with ``command_line``, and what it does."""

GROUPS = {
    "your own cameras": ("doctor", "crops", "adapt", "embed", "index", "search", "group"),
    "research": ("train", "reproduce", "cluster"),
    "models": ("export", "zoo", "report"),
    "this machine": ("env", "compile"),
    "synthetic people": ("synthetic",),
}
"""Titles of the help, and the commands under each in their order; those that are not named come last."""


def _help() -> str:
    """Return the commands by purpose."""
    width = max(map(len, COMMANDS))
    named = [name for names in GROUPS.values() for name in names]
    groups = {**GROUPS, "others": tuple(name for name in COMMANDS if name not in named)}
    parts = []
    for title, names in groups.items():
        lines = [f"  {name:{width}}  {COMMANDS[name][1]}" for name in names if name in COMMANDS]
        if lines:
            parts.append("\n".join([f"{title}:", *lines]))
    return "\n\n".join([*parts, "nplp COMMAND --help says more of each.\n"])


class _Version(argparse.Action):
    """Shows the version, which is read where the library is not imported for it."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Show it and end."""
        spec = find_spec("nplp")
        source = Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
        found = re.search(r'__version__ = "(.+)"', source)
        sys.stdout.write(f"nplp {found[1] if found else 'of an unknown version'}\n")
        parser.exit()


def _known(word: str) -> str:
    """Return a command's name.

    Raises:
        argparse.ArgumentTypeError: if there is no such command, naming the nearest.
    """
    if word in COMMANDS:
        return word
    near = difflib.get_close_matches(word.lower(), COMMANDS, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(COMMANDS)}"
    raise argparse.ArgumentTypeError(f"there is no command {word!r}: {hint}")


def build_parser() -> OneLineParser:
    """Return the parser of the first word alone."""
    parser = OneLineParser(
        prog="nplp",
        usage="nplp COMMAND ...",
        description="Adapt a person re-identification model to cameras that nobody has labelled.",
        epilog=_help(),
    )
    parser.add_argument("command", type=_known, metavar="COMMAND", help="one of those below")
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    return parser


def command_line(argv: Sequence[str] | None = None) -> None:
    """Run the sub-command that the first word names, with the words after it."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser()

    def start(args: argparse.Namespace) -> None:
        # Sub-commands take their words from here, and their name: see nplp_commands.parsing.as_typed.
        sys.argv = [f"nplp {args.command}", *words[1:]]
        import_module(COMMANDS[args.command][0]).command_line()

    if not words:
        parser.print_help()
        return
    if words[0].startswith("-") and words[0] not in ("-h", "--help", "--version"):
        parser.error(f"there is no option {words[0]!r} before the command: see nplp --help")
    run_tool(parser, start, words[:1], user_errors_alone=True)


if __name__ == "__main__":
    command_line()
