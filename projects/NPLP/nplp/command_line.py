"""What the tools' command lines share: a mistake is one line and exit code 2."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from nplp.errors import printable

__all__ = ["OneLineParser", "run_tool"]


class OneLineParser(argparse.ArgumentParser):
    """A parser that reports a mistake in one line and keeps the layout of its texts."""

    def __init__(self, **options: Any) -> None:
        """Take what ``ArgumentParser`` takes."""
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        """Write the mistake to the standard error and exit with code 2."""
        self.exit(2, f"{self.prog}: {' '.join(message.split())}\n")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Write what may hold a stranger's text to the standard error, and exit."""
        super().exit(status, printable(message) if message else message)


def run_tool(
    parser: OneLineParser,
    main: Callable[[argparse.Namespace], int | None],
    argv: Sequence[str] | None = None,
    mistake: type[ValueError] = ValueError,
    how_to_go_on: Callable[[argparse.Namespace], str] = lambda _: "",
) -> None:
    """Parse the command line, call ``main`` and exit with the code that it returns.

    Args:
        parser: of the command line.
        main: what the command does.
        argv: the words of the command line; None for those of the process.
        mistake: the errors of the user; each is one line and exit code 2.
        how_to_go_on: returns what is said after Ctrl-C, which is exit code 130.
    """
    args = parser.parse_args(argv)
    try:
        code = main(args) or 0
    except mistake as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        parser.exit(130, f"\n{parser.prog}: stopped{how_to_go_on(args)}\n")
    if code:
        sys.exit(code)
