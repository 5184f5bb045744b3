"""Python programs that this process starts and waits for."""

import subprocess
import sys
import tempfile
from collections.abc import Sequence

__all__ = ["fault_of_program"]


def fault_of_program(arguments: Sequence[str], seconds: float) -> str:
    """Run this interpreter with arguments and return in one line what went wrong; empty where nothing did.

    Args:
        arguments: a script and its arguments, or ``-c`` and a text.
        seconds: how long the program may take.

    Raises:
        OSError: if it cannot be started.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        try:
            # Output goes to a file: a pipe that one of its processes holds open would outlive the time limit.
            status = subprocess.run(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=seconds,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            return f"took over {seconds} seconds"
        log.seek(0)
        lines = [line.strip() for line in log if line.strip()]
    return f"ended with status {status}: {lines[-1] if lines else 'it said nothing'}" if status else ""
