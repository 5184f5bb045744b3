"""Processes that this one spawned: signals reach them, and what one of them is writing is finished first."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import connection, resource_tracker
from pathlib import Path
from types import FrameType
from typing import Any

import torch.multiprocessing as mp

from nplp.errors import UserError

__all__ = ["SIGNALS", "begin_child", "left_in_peace", "report_to_parent", "run_children"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)
INTERRUPTED = tuple(128 + number for number in SIGNALS)
"""Statuses of a process that a signal asked to stop, as a shell reports them."""

TIME_TO_LEAVE = 30.0
"""Seconds that processes have to leave by themselves, after one left for a reason that all of them share."""
TIME_TO_OBEY = 30.0
"""Seconds from SIGTERM to SIGKILL: a process that waits inside a collective does not see the first."""
POLL = 0.1

_mark: Path | None = None
"""What this process, if it was spawned, puts up while it must not be ended."""


def run_children(function: Callable[..., Any], count: int, args: tuple[Any, ...], folder: Path) -> None:
    """Call ``function(number, *args)`` in ``count`` new processes and wait for all of them.

    When one fails, the others cannot go on and are ended, none of them within `left_in_peace`. A signal that
    arrives here is handed on; a process that gets it twice, from a terminal too, must take it for one.

    Args:
        function: calls `begin_child` first.
        count: processes.
        args: of ``function``.
        folder: an empty one, for what the processes tell this one.

    Raises:
        UserError: one that a process has told by `report_to_parent`.
        SystemExit: if a signal stopped the processes, or one ended with a status of its own.
        ProcessRaisedException: with the traceback of the first process that failed in another way.
        ProcessExitedException: if the first one was killed.
    """
    received: list[int] = []
    processes: list[Any] = []

    def hand_on(signum: int, frame: FrameType | None) -> None:
        del frame
        received.append(signum)
        for process in processes:
            if process.is_alive():
                os.kill(process.pid, signum)

    # It is started with the first process, and would let the signals through again.
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    before = {number: signal.signal(number, hand_on) for number in SIGNALS}
    try:
        context = mp.spawn(function, nprocs=count, args=args, join=False)
        processes.extend(context.processes)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        failed = _first_failure(processes)
        if failed is not None:
            _end_others(failed, processes, folder)
            _report(failed, context, folder, received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _first_failure(processes: Sequence[Any]) -> Any:
    """Wait until all processes have ended well or one has not; return the latter, or ``None``."""
    waiting = {process.sentinel: process for process in processes}
    while waiting:
        for sentinel in connection.wait(list(waiting)):
            process = waiting.pop(sentinel)
            process.join()
            if process.exitcode:
                return process
    return None


def _end_others(failed: Any, processes: Sequence[Any], folder: Path) -> None:
    """Wait until all processes have ended, and see to it that they do."""
    shared = failed.exitcode in INTERRUPTED or bool(_reported_errors(folder))
    patience = TIME_TO_LEAVE if shared else 0.0
    asked = False
    since = time.monotonic()
    while alive := [process for process in processes if process.is_alive()]:
        if any(_mark_of(folder, processes.index(process)).exists() for process in alive):
            since = time.monotonic()
        elif not asked and time.monotonic() - since >= patience:
            asked = True
            for process in alive:
                process.terminate()
        elif time.monotonic() - since >= patience + TIME_TO_OBEY:
            for process in alive:
                process.kill()
        connection.wait([process.sentinel for process in alive], timeout=POLL)
    for process in processes:
        process.join()


def _report(failed: Any, context: Any, folder: Path, received: list[int]) -> None:
    """Raise what became of the processes."""
    if errors := _reported_errors(folder):
        raise UserError(errors[0].read_text(encoding="utf-8"))
    stopped = [process.exitcode for process in context.processes if process.exitcode in INTERRUPTED]
    if received or stopped:
        # The others may have failed for want of one that a signal stopped.
        raise SystemExit(128 + received[0] if received else stopped[0])
    # It reports the first failure that it comes upon, which need not be the one that caused the others.
    context.sentinels = {failed.sentinel: context.processes.index(failed)}
    try:
        context.join()
    except mp.ProcessExitedException as error:
        if error.signal_name is not None:
            raise
        raise SystemExit(error.exit_code) from None


def begin_child(folder: str, number: int) -> None:
    """Let signals through and remember where to tell the parent; the first thing a new process does.

    Until here they wait: they would end the imports of a new process in a traceback.
    """
    global _mark
    _mark = _mark_of(Path(folder), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def report_to_parent(error: UserError, folder: str, number: int) -> None:
    """Leave the text of a user's mistake where the parent looks for it."""
    (Path(folder) / f"user-error-{number:04d}").write_text(str(error), encoding="utf-8")


@contextmanager
def left_in_peace() -> Iterator[None]:
    """Keep this process from being ended within the block because another one has failed."""
    if _mark is None:
        yield
        return
    # Where not even an empty file fits, the block is no worse off than without.
    with suppress(OSError):
        _mark.touch()
    try:
        yield
    finally:
        with suppress(OSError):
            _mark.unlink(missing_ok=True)


def _mark_of(folder: Path, number: int) -> Path:
    return folder / f"busy-{number:04d}"


def _reported_errors(folder: Path) -> list[Path]:
    return sorted(folder.glob("user-error-*"))
