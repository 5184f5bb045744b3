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
) -> None:
    """Parse the command line, call ``main`` and exit with the code that it returns.

    The command line is ``argv``, or that of the process where it is None.

    A ``ValueError``, as which every mistake of a user comes, is one line and code 2; Ctrl-C is code 130.
    """
    args = parser.parse_args(argv)
    try:
        code = main(args) or 0
    except ValueError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        parser.exit(130, f"\n{parser.prog}: stopped\n")
    if code:
        sys.exit(code)
