"""What the tools' command lines share: a mistake is one line and exit code 2."""

import argparse
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn

__all__ = ["OneLineParser", "printable", "run_tool"]

UNSEEN = re.compile(
    r"[^\n\t\x20-\x7e\u00a1-\U0010ffff]"
    r"|[\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff]"
)
"""Characters that steer a terminal, hide, turn the direction of others, or cannot be written."""


def printable(text: str) -> str:
    """Return a stranger's text as a terminal may show it: what would steer it becomes its number."""
    return UNSEEN.sub(lambda found: ascii(found[0])[1:-1], text)


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


def run_tool(parser: OneLineParser, main: Callable[[argparse.Namespace], int | None]) -> None:
    """Parse the command line, call ``main`` and exit with the code that it returns.

    A ``ValueError``, as which every mistake of a user comes, is one line and code 2; Ctrl-C is code 130.
    """
    args = parser.parse_args()
    try:
        code = main(args) or 0
    except ValueError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        parser.exit(130, f"\n{parser.prog}: stopped\n")
    if code:
        sys.exit(code)
