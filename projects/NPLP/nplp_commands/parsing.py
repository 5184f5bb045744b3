"""What the tools' command lines share: a mistake is one line and exit code 2."""

import argparse
import atexit
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

__all__ = ["OneLineParser", "ignore_further_interrupts", "run_tool"]


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
        if message:
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
