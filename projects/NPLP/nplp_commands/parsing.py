"""What the tools' command lines share: a mistake is one line and exit code 2."""

import argparse
import atexit
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

__all__ = ["OneLineParser", "as_typed", "ignore_further_interrupts", "run_tool"]

COMMAND = "nplp "
"""How the first word of the process begins, ``nplp train``, where the command nplp started it."""

TYPED = {
    "python tools/train_net.py": "nplp train",
    "python tools/export_model_zoo.py": "nplp export",
    "python tools/model_zoo.py": "nplp zoo",
    "python tools/report.py": "nplp report",
    "python tools/make_synthetic.py": "nplp synthetic",
    "python tools/reproduce.py": "nplp reproduce",
    "python -m nplp.clustering": "nplp cluster",
}
"""What the examples of a help name, and what is typed in its place where nplp was."""


def as_typed(name: str) -> str:
    """Return the command as the user typed it: ``nplp train``, or else the tool's own name."""
    return sys.argv[0] if sys.argv[0].startswith(COMMAND) else name


class OneLineParser(argparse.ArgumentParser):
    """A parser that reports a mistake in one line and keeps the layout of its texts."""

    def __init__(self, **options: Any) -> None:
        """Take what ``ArgumentParser`` takes; ``prog`` gives way to what was typed."""
        typed = as_typed(options.get("prog") or "")
        # The parser of an action, "nplp zoo list", has the typed words already.
        if typed.startswith(COMMAND) and not (options.get("prog") or "").startswith(typed):
            options["prog"] = typed
        if typed.startswith(COMMAND) and options.get("epilog"):
            for tool, command in TYPED.items():
                options["epilog"] = options["epilog"].replace(tool, command)
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        """Write the mistake to the standard error and exit with code 2."""
        self.exit(2, f"{self.prog}: {' '.join(message.split())}\n")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Write what may hold a stranger's text to the standard error, and exit."""
        # The library is imported for a stranger's text alone: importing it takes seconds.
        if message and not message.replace("\n", "").isprintable():
            from nplp.errors import printable

            message = printable(message)
        super().exit(status, message)


def run_tool(
    parser: OneLineParser,
    main: Callable[[argparse.Namespace], int | None],
    argv: Sequence[str] | None = None,
    user_errors_alone: bool = False,
    how_to_go_on: Callable[[argparse.Namespace], str] = lambda _: "",
) -> None:
    """Parse the command line, call ``main`` and exit with the code that it returns.

    Args:
        parser: of the command line.
        main: what the command does.
        argv: the words of the command line; None for those of the process.
        user_errors_alone: show other errors than ``UserError`` with their traceback. By default every
            ``ValueError`` is a mistake of the user: one line and exit code 2.
        how_to_go_on: returns what is said after Ctrl-C, which is exit code 130.
    """
    args = parser.parse_args(argv)
    try:
        code = main(args) or 0
    except ValueError as error:
        from nplp.errors import UserError

        if user_errors_alone and not isinstance(error, UserError):
            raise
        parser.error(str(error))
    except KeyboardInterrupt:
        ignore_further_interrupts()
        parser.exit(130, f"\n{parser.prog}: stopped{how_to_go_on(args)}\n")
    if code:
        sys.exit(code)


def ignore_further_interrupts() -> None:
    """Let a further Ctrl-C change nothing while the process ends, where it would show as an error."""
    # At the exit, the last callback that was registered is called first.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
