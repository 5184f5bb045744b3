"""Runs what is missing of a plan, several at a time, and goes on where it was stopped."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from tqdm import tqdm

from nplp.circumstances import circumstances, commit
from nplp.distributed.processes import end_with_parent
from nplp.errors import UserError
from nplp.files import write_atomically
from nplp_commands.configurations import PACKED
from nplp_experiments.plan import PACKAGES, Run, code_digest, configurations_root

__all__ = ["DONE", "finished", "run_missing"]

logger = logging.getLogger(__name__)

DONE = "done.json"
SHOWN = "shown.txt"
LOCK = ".lock"
PAUSE = 0.5
PATIENCE = 60.0
"""Seconds in which a run finishes its step and saves it; after them another process gives up."""


@dataclass
class _Active:
    """A run that is going on."""

    run: Run
    process: subprocess.Popen[bytes]
    begin: float


def command_of(run: Run, folder: Path) -> list[str]:
    """Return the words that carry out a run."""
    words = [sys.executable, "-m", "nplp_commands.train", "--resume", "--config-file", run.config]
    for overlay in run.overlays:
        words += ["--overlay", overlay]
    words += ["OUTPUT_DIR", str((folder / run.key).resolve())]
    if run.source:
        words += ["NPLP.SOURCE.WEIGHTS", str((folder / run.source / "source" / "model_final.pth").resolve())]
    return [*words, *(word for pair in run.options for word in pair)]


def finished(run: Run, folder: Path, other_code: bool = False) -> bool:
    """Tell whether a run has ended.

    Args:
        run: which.
        folder: of all runs.
        other_code: whether runs of other code than the present one count.

    Raises:
        UserError: if the run there had other settings, or other code that does not count.
    """
    path = folder / run.key / DONE
    if not path.is_file():
        return False
    done = json.loads(path.read_text(encoding="utf-8"))
    if done["settings"] != run.settings:
        raise UserError(
            f"{str(path.parent)!r} holds a run of other settings ({done['settings']}, now {run.settings}): "
            "remove that folder or name another with --folder"
        )
    if done.get("code") != code_digest() and not other_code:
        raise UserError(
            f"{str(path.parent)!r} was made by other code (commit {done.get('commit')}, now {commit()}), "
            "which may give other results: remove that folder, name another with --folder, or add "
            "--other-code to count such runs"
        )
    return True


def run_missing(
    runs: list[Run], folder: Path, jobs: int = 1, threads: int = 1, other_code: bool = False
) -> list[str]:
    """Carry out the runs that have not ended, each after those it needs.

    Ctrl-C stops the runs that are going on where they can be resumed.

    Args:
        runs: in an order in which each comes after what it needs.
        folder: of all runs.
        jobs: how many at a time.
        threads: of each; results depend on it by rounding, but not on the number of jobs.
        other_code: whether runs of other code count.

    Returns:
        Keys of runs that failed and of those that could not begin because of them.

    Raises:
        UserError: if a folder holds a run of other settings or other code, or another process carries out
            runs in it.
    """
    failed: list[str] = []
    active: list[_Active] = []
    with _alone(folder) as lock, _all_stopped(active):
        waiting = [run for run in runs if not finished(run, folder, other_code)]
        done = {run.key for run in runs} - {run.key for run in waiting}
        bar = tqdm(total=len(waiting), desc="Runs", unit="run", disable=None)
        while waiting or active:
            for run in [run for run in waiting if set(run.needs) & set(failed)]:
                waiting.remove(run)
                failed.append(run.key)
            ready = [run for run in waiting if set(run.needs) <= done]
            for run in ready[: max(0, jobs - len(active))]:
                waiting.remove(run)
                active.append(_start(run, folder, threads, lock))
            for one in [one for one in active if one.process.poll() is not None]:
                active.remove(one)
                bar.update()
                if one.process.returncode:
                    failed.append(one.run.key)
                    logger.error("%s failed: %s", one.run.key, _last_line(folder / one.run.key / SHOWN))
                    continue
                _finish(one, folder)
                done.add(one.run.key)
            time.sleep(PAUSE)
        bar.close()
    return failed


def _start(run: Run, folder: Path, threads: int, lock: IO[str] | None) -> _Active:
    """Begin a run, or go on with it; it holds the lock too, and ends where it can be resumed if this dies."""
    place = folder / run.key
    place.mkdir(parents=True, exist_ok=True)
    if run.branch and not list(place.glob("epoch_*.pth")):
        last = max((folder / run.branch).glob("epoch_*.pth"), default=None)
        if last is None:
            raise UserError(
                f"{str(folder / run.branch)!r} has no checkpoint to go on from: remove {DONE} there"
            )
        # Under another name first: half a checkpoint must not look like one.
        shutil.copyfile(last, place / "copy.part")
        (place / "copy.part").replace(place / last.name)
    with open(place / SHOWN, "ab") as shown:
        process = subprocess.Popen(
            command_of(run, folder),
            cwd=_working_folder(),
            stdin=subprocess.DEVNULL,
            stdout=shown,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            start_new_session=True,
            preexec_fn=partial(end_with_parent, signal.SIGTERM) if os.name == "posix" else None,
            pass_fds=() if lock is None else (lock.fileno(),),
        )
    return _Active(run, process, time.monotonic())


def _working_folder() -> Path:
    """Return where runs read data and write caches: the checkout, or the current folder without one."""
    root = configurations_root()
    # The command finds the configurations of an installed package by itself.
    return Path.cwd() if root == PACKAGES / PACKED.name else root


def _finish(one: _Active, folder: Path) -> None:
    """Mark a run as ended and remove what nothing needs any more."""
    place = folder / one.run.key
    kept = {"source": (), "startup": tuple(sorted(place.glob("epoch_*.pth"))[-1:])}.get(place.name, ())
    for path in (*place.glob("*.pth"), *(place / "source").glob("epoch_*.pth")):
        if path not in kept:
            path.unlink()
    seconds = round(time.monotonic() - one.begin, 1)
    code = {"commit": commit(), "code": code_digest()}
    content = {"settings": one.run.settings, "seconds": seconds, **code, **circumstances()}
    write_atomically(place / DONE, json.dumps(content, indent=2) + "\n")


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "nothing was shown"


@contextmanager
def _alone(folder: Path) -> Iterator[IO[str] | None]:
    """Hold a folder's lock while the block runs; yield it, or ``None`` where there are no such locks.

    Raises:
        UserError: if another process, or a run that it left, holds it for longer than a run takes to end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "w", encoding="utf-8") as handle:
        try:
            import fcntl
        except ImportError:
            yield None
            return
        for number in range(round(PATIENCE / PAUSE) + 1):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if number == 0:
                    logger.info("Waiting for the runs that another process began in %s", folder)
                time.sleep(PAUSE)
        else:
            raise UserError(
                f"another process carries out runs in {str(folder)!r}: wait for it, or name another folder "
                "with --folder"
            )
        yield handle


@contextmanager
def _all_stopped(active: list[_Active]) -> Iterator[None]:
    """End the runs that are still going on when the block ends, so that they can be resumed."""
    try:
        yield
    finally:
        for one in active:
            one.process.send_signal(signal.SIGTERM)
        for one in active:
            one.process.wait()
