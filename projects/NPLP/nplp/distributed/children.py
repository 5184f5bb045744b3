"""Spawned processes: signals are passed on to them, and none of them is ended while it writes a file."""

import atexit
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import connection, resource_tracker
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import torch.multiprocessing as mp

from nplp.errors import UserError

__all__ = ["SIGNALS", "begin_child", "end_child", "protected_from_ending", "report_to_parent", "run_children"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)
INTERRUPTED = tuple(128 + number for number in SIGNALS)
"""Statuses of a process that a signal asked to stop, as a shell reports them."""

TIME_TO_LEAVE = 30.0
"""Seconds that processes have to leave by themselves, after one left for a reason that all of them share."""
TIME_TO_OBEY = 30.0
"""Seconds from SIGTERM to SIGKILL: a process that waits inside a collective does not see the first."""
POLL = 0.1

_mark: Path | None = None
"""The file by which a spawned process shows its parent that it must not be ended now."""


def run_children(function: Callable[..., Any], count: int, args: tuple[Any, ...], folder: Path) -> None:
    """Call ``function(number, *args)`` in ``count`` new processes and wait for all of them.

    When one process fails, the others cannot go on: they are ended, but not within `protected_from_ending`. A
    signal that arrives here is passed on. A terminal may send it to the processes as well: they must count
    the two as one.

    Args:
        function: calls `begin_child` first.
        count: processes.
        args: of ``function``.
        folder: an empty one, for the reports of the processes.

    Raises:
        UserError: the one that a process reported by `report_to_parent`.
        SystemExit: if a signal stopped the processes, or one ended with a status of its own.
        ProcessRaisedException: with the traceback of the first process that failed in another way.
        ProcessExitedException: if the first one was killed.
    """
    received: list[int] = []
    processes: list[Any] = []

    def pass_on(signum: int, frame: FrameType | None) -> None:
        del frame
        received.append(signum)
        for process in processes:
            if process.is_alive():
                os.kill(process.pid, signum)

    # Else it would be started with the first process and unblock the signals.
    if os.name == "posix":
        resource_tracker.ensure_running()
    _block_signals(True)
    before = {number: signal.signal(number, pass_on) for number in SIGNALS}
    try:
        context = mp.spawn(_run_to_its_end, nprocs=count, args=(function, *args), join=False)
        processes.extend(context.processes)
        _block_signals(False)
        failed = _first_failure(processes)
        if failed is not None:
            _end_others(failed, processes, folder)
            _report(failed, context, folder, received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _block_signals(False)


def _block_signals(blocked: bool) -> None:
    """Keep the signals back, or let them come; Windows cannot, and does nothing."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK if blocked else signal.SIG_UNBLOCK, SIGNALS)


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
    """Wait until all processes have ended, and end those that do not leave by themselves."""
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
    """Raise the error that says how the processes ended."""
    errors = _reported_errors(folder)
    # Where a process was killed, what the others say of it knows less.
    if errors and failed.exitcode > 0:
        raise UserError(errors[0].read_text(encoding="utf-8"))
    stopped = [process.exitcode for process in context.processes if process.exitcode in INTERRUPTED]
    if received or stopped:
        # The others may have failed for want of one that a signal stopped.
        raise SystemExit(128 + received[0] if received else stopped[0])
    # torch reports the first failure that it finds, which need not be the cause of the others.
    context.sentinels = {failed.sentinel: context.processes.index(failed)}
    try:
        context.join()
    except mp.ProcessExitedException as error:
        if error.signal_name is not None:
            raise
        raise SystemExit(error.exit_code) from None


def _run_to_its_end(number: int, function: Callable[..., Any], *args: Any) -> None:
    """Run a new process; one that fails in a way nobody foresaw ends as Python ends, with a traceback."""
    status = 0
    try:
        function(number, *args)
    except SystemExit as error:
        if isinstance(error.code, str):
            raise
        status = error.code or 0
    end_child(status)


def begin_child(folder: str, number: int) -> None:
    """Unblock the signals and note where to report to the parent; a new process calls this first.

    They are blocked until then, as a signal would end the imports of a new process in a traceback.
    """
    global _mark
    _mark = _mark_of(Path(folder), number)
    _block_signals(False)


def report_to_parent(error: UserError, folder: str, number: int) -> None:
    """Write the text of a user's mistake into the folder in which the parent looks for it."""
    (Path(folder) / f"user-error-{number:04d}").write_text(str(error), encoding="utf-8")


def end_child(status: int = 0) -> NoReturn:
    """End this process with a status; nothing of Python's own end runs but the handlers of atexit.

    The threads of a gloo group outlive it where a model was trained in ``DistributedDataParallel``. One of
    them that frees a tensor while Python ends would abort the process, after all its work: "terminate called
    without an active exception".
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        # There may be none, or nobody who reads it.
        with suppress(AttributeError, OSError):
            stream.flush()
    os._exit(status)


@contextmanager
def protected_from_ending() -> Iterator[None]:
    """Keep this process from being ended within the block because another one has failed."""
    if _mark is None:
        yield
        return
    # On a full disk the block runs without protection.
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
