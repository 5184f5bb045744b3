"""A measurement in a process of its own, which reports line by line and can be stopped in time."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["MeasurementError", "read_lines", "read_records"]


class MeasurementError(RuntimeError):
    """The process ended before it had measured everything; the message is the last thing it said."""


def read_records(
    command: Sequence[str],
    on_record: Callable[[dict[str, Any]], object],
    environment: Mapping[str, str] | None = None,
    seconds: float | None = None,
) -> list[dict[str, Any]]:
    """Run a command that prints one JSON object a line, and return them.

    Args:
        command: program and arguments.
        on_record: called with each object as it comes, so that what came before a failure is not lost.
        environment: of the process; None for this process's.
        seconds: after which it is stopped, with all that it started; None never stops it.

    Raises:
        MeasurementError: if the process fails, be it for want of memory, or is stopped.
    """
    records = []

    def take(line: str) -> None:
        records.append(json.loads(line))
        on_record(records[-1])

    read_lines(command, take, environment, seconds)
    return records


def read_lines(
    command: Sequence[str],
    on_line: Callable[[str], object],
    environment: Mapping[str, str] | None = None,
    seconds: float | None = None,
    good: Sequence[int] = (0,),
    folder: Path | None = None,
) -> None:
    """Run a command and hand over each line of its standard output, as `read_records` does with objects.

    Args:
        command: program and arguments.
        on_line: called with each line.
        environment: of the process; None for this process's.
        seconds: after which it is stopped; None never stops it.
        good: exit statuses that are no failure.
        folder: that it runs in; None for this process's.

    Raises:
        MeasurementError: if the process fails or is stopped.
    """
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
        subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        ) as process,
    ):
        stopped = threading.Event()

        def stop() -> None:
            stopped.set()
            _end(process)

        timer = threading.Timer(seconds, stop) if seconds is not None else None
        try:
            if timer is not None:
                timer.start()
            assert process.stdout is not None
            for line in process.stdout:
                on_line(line)
            status = process.wait()
        except BaseException:
            _end(process)
            raise
        finally:
            if timer is not None:
                timer.cancel()
        if stopped.is_set():
            raise MeasurementError(f"stopped after {seconds:.0f} s")
        if status not in good:
            errors.seek(0)
            last = (errors.read().strip().splitlines() or ["it said nothing"])[-1]
            raise MeasurementError(f"exit status {status}: {last}")


def _end(process: subprocess.Popen[str]) -> None:
    """End a process and what it started, which has the session that was made for it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
