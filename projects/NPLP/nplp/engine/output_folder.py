"""The folder of a run: one process writes into it at a time, and an earlier run in it is kept aside.

Nothing is written before :meth:`OutputFolder.begin`, which comes after all checks: a run that is refused
leaves the folder as it was.
"""

import json
import logging
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from nplp.distributed.collectives import from_all, from_main_process
from nplp.errors import UserError
from nplp.files import PART

__all__ = [
    "CAMERA_PAIRS",
    "CONFIG",
    "HISTORY",
    "LOCK",
    "LOG",
    "PRODUCTS",
    "RESULTS",
    "OutputFolder",
    "held",
    "set_old_end_apart",
]

logger = logging.getLogger(__name__)

CONFIG = "config.yaml"
LOG = "log.txt"
RESULTS = "results.json"
HISTORY = "pseudo_labels.jsonl"
CAMERA_PAIRS = "camera_pairs.json"
LOCK = ".lock"
EARLIER = "earlier_runs"
TIME_TO_APPEAR = 60.0
"""Seconds within which a network drive shows a new file to other machines."""
POLL = 0.2
REMOVED = ".removed"
"""The end of the name of a folder in ``earlier_runs`` that is being removed."""

OWN = (
    CONFIG,
    LOG,
    RESULTS,
    HISTORY,
    CAMERA_PAIRS,
    "metrics.json",
    "events.out.tfevents.*",
    "last_checkpoint",
    "epoch_*.pth",
    "model_final*.pth",
    "model_iteration_*.pth",
    "model_epoch_*.pth",
    "report*.html",
    "figures*",
    "projection",
    "trace",
    "source",
)
"""What a run leaves in its folder; whatever else lies there is somebody's own and is not touched."""


PRODUCTS = {"bundle": "SHA256SUMS", "index": "index.json"}
"""Folders of what is made of the adapted model, and the file that tells each from others' folders."""


class OutputFolder:
    """A folder that this process alone writes into; :func:`held` gives it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._begun = False
        self._lock: IO[bytes] | None = None
        self._lock_before: bytes | None = None
        self._created: list[Path] = []

    def begin(self, *, aside: bool, overwrite: bool = False, staying: str = "") -> None:
        """Make the folder ready to be written into; every rank must call this.

        Args:
            aside: whether a run that is in the folder is kept in ``earlier_runs``.
            overwrite: remove it instead.
            staying: the name of a subfolder that stays where it is.

        Raises:
            UserError: if files cannot be moved; they are all back in their place then.
        """
        from_main_process(lambda: self._begin(aside, overwrite, staying))

    def _begin(self, aside: bool, overwrite: bool, staying: str) -> None:
        self._begun = True
        put_back(self.path)
        for rest in (self.path / EARLIER).glob(f"*{REMOVED}"):
            shutil.rmtree(rest, ignore_errors=True)
        if aside:
            _keep_aside(self.path, overwrite, staying)

    @property
    def taken(self) -> bool:
        """Tell whether this process holds the lock."""
        return self._lock is not None

    def take(self) -> bytes:
        """Make the folder where there is none, and hold its lock.

        Returns:
            What the lock says now; empty where it could not be written.

        Raises:
            UserError: if another process has it, or it cannot be written.
        """
        parents = (self.path, *self.path.parents)
        self._created = [path for path in parents if not path.exists()]
        lock = self.path / LOCK
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            while True:
                before = lock.read_bytes() if lock.exists() else None
                handle = open(lock, "a+b")  # noqa: SIM115  held until the run ends
                if not _lock(handle, self.path):
                    holder = _holder(handle)
                    handle.close()
                    raise UserError(
                        f"OUTPUT_DIR {str(self.path)!r} is in use by {holder}: wait until it has ended, or "
                        "set another OUTPUT_DIR"
                    )
                # Whoever had it may have removed the file since it was opened.
                if lock.exists() and os.path.samestat(os.fstat(handle.fileno()), lock.stat()):
                    break
                handle.close()
        except OSError as error:
            self._remove_created()
            raise UserError(
                f"OUTPUT_DIR {str(self.path)!r} cannot be written ({error.strerror}): set another"
            ) from error
        self._lock, self._lock_before = handle, before
        present = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        content = json.dumps(present).encode()
        return content if self._fill_lock(content) else b""

    def _fill_lock(self, content: bytes) -> bool:
        """Write into the lock who holds it; on a full disk it stays empty and holds all the same.

        Returns:
            Whether it was written, to where other machines see it.
        """
        assert self._lock is not None
        try:
            self._lock.truncate(0)
            self._lock.write(content)
            self._lock.flush()
            os.fsync(self._lock.fileno())
        except OSError:
            return False
        return True

    def release(self) -> None:
        """Release the lock; a folder in which nothing was begun is left as it was."""
        if self._lock is None:
            return
        if self._begun or self._lock_before is None:
            (self.path / LOCK).unlink(missing_ok=True)
        else:
            self._fill_lock(self._lock_before)
        with suppress(OSError):
            self._lock.close()
        self._lock = None
        self._remove_created()

    def _remove_created(self) -> None:
        """Remove the folders that this run created and wrote nothing into."""
        for path in self._created:
            with suppress(OSError):
                path.rmdir()


@contextmanager
def held(path: Path, resume: bool) -> Iterator[OutputFolder]:
    """Keep a folder for this run alone while the block runs; every rank must enter it.

    The lock belongs to the main process and ends with it, however it ends: neither the loader's workers
    nor other ranks hold it.

    Args:
        path: ``OUTPUT_DIR``; made where there is none, and removed again if the run is refused.
        resume: whether the run in the folder is to go on; what a kill left half moved aside is put back then.

    Raises:
        UserError: naming who has it, or why it cannot be written; or a process that has another folder.
    """
    folder = OutputFolder(path)

    def take() -> bytes:
        mark = folder.take()
        if resume:
            put_back(path)
        return mark

    try:
        _check_one_folder(folder, from_main_process(take))
        yield folder
    finally:
        folder.release()


def _check_one_folder(folder: OutputFolder, mark: bytes) -> None:
    """Check that all processes have the main process's folder; every rank must call this.

    Only that one writes. The others read the source model there, and the checkpoint to go on from. Any of
    them may be the next one that writes: torchrun numbers the processes anew when it starts them again.

    Args:
        folder: this process's.
        mark: what the main process has written into the lock; where it is empty nothing is checked.

    Raises:
        UserError: on every process, naming the first that has another folder.
    """
    if not mark:
        return
    deadline = time.monotonic() + TIME_TO_APPEAR
    # The lock of a process would end with the first file of that name that it closes.
    while not (same := folder.taken or _content(folder.path / LOCK) == mark) and time.monotonic() < deadline:
        time.sleep(POLL)
    found = from_all((same, str(folder.path), socket.gethostname()))
    for rank, (holds, path, host) in enumerate(found):
        if not holds:
            raise UserError(
                f"OUTPUT_DIR {path!r} of process {rank} on {host} is another folder than {found[0][1]!r} of "
                f"process 0 on {found[0][2]}: set it to one that all machines share, as of a network drive"
            )


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _lock(handle: IO[bytes], path: Path) -> bool:
    """Lock an open file, and return whether nobody else had; where there are no locks, say so and go on."""
    try:
        import fcntl
    except ImportError:
        logger.warning("This system cannot lock %s: begin no second run in it", path)
        return True
    try:
        # Of the process, not of the open file as flock's: a worker that is forked and outlives it has none.
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        logger.warning("%s cannot be locked (%s): begin no second run in it", path, error.strerror)
    return True


def _holder(handle: IO[bytes]) -> str:
    """Return who wrote a lock, in words."""
    try:
        handle.seek(0)
        content = json.loads(handle.read())
        return f"process {content['pid']} on {content['host']} since {content['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _keep_aside(folder: Path, overwrite: bool, staying: str) -> None:
    """Move the files of the run in a folder into ``earlier_runs/NNNN``, or remove them.

    They go through ``earlier_runs/NNNN.part``: by that name a move that was cut short is recognised.
    """
    files = [path for pattern in OWN for path in sorted(folder.glob(pattern)) if path.name != staying]
    files += [folder / name for name, mark in PRODUCTS.items() if (folder / name / mark).is_file()]
    if all(path.name in (CONFIG, LOG) for path in files):
        return
    earlier = folder / EARLIER
    numbers = [int(path.name[:4]) for path in earlier.glob("[0-9][0-9][0-9][0-9]*")]
    place = earlier / f"{max(numbers, default=0) + 1:04d}"
    moving = place.with_name(place.name + PART)
    try:
        moving.mkdir(parents=True)
        for path in files:
            _move(path, moving / path.name)
        target = place.with_name(place.name + REMOVED) if overwrite else place
        moving.rename(target)
    except OSError as error:
        with suppress(OSError):
            put_back(folder)
            earlier.rmdir()
        raise UserError(
            f"the earlier run in {str(folder)!r} cannot be kept aside ({error.strerror}): set another "
            "OUTPUT_DIR, or move it yourself"
        ) from error
    if overwrite:
        shutil.rmtree(target, ignore_errors=True)
        with suppress(OSError):
            earlier.rmdir()
        logger.info("The earlier run in %s was removed, as --overwrite asks", folder)
        return
    runs = len([path for path in earlier.iterdir() if path.is_dir()])
    logger.info(
        "The run that was in %s is kept in %s: %s holds %d run(s), %s, and may be deleted",
        *(folder, place, earlier, runs, _megabytes(earlier)),
    )


def _move(path: Path, target: Path) -> None:
    """Rename a file or folder; a link goes on pointing to what it pointed to."""
    if path.is_symlink() and not os.path.isabs(os.readlink(path)):
        target.symlink_to(path.parent.resolve() / os.readlink(path))
        path.unlink()
    else:
        path.rename(target)


def put_back(folder: Path) -> None:
    """Undo a move into ``earlier_runs`` that was cut short; nothing happens where there was none."""
    for moving in (folder / EARLIER).glob(f"*{PART}"):
        for path in moving.iterdir():
            path.rename(folder / path.name)
        moving.rmdir()
        with suppress(OSError):
            moving.parent.rmdir()


def _megabytes(folder: Path) -> str:
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return f"{total / 1e6:.1f} MB"


def set_old_end_apart(folder: Path, name: str) -> None:
    """Rename the results of a shorter run when the run goes on beyond its end.

    ``model_final.pth`` becomes ``model_NAME.pth``, and ``report.html`` ``report_NAME.html``. The traces of
    the old end are removed, as the page of the longer run would take them for its own.

    Args:
        folder: of the run.
        name: where the shorter run ended, such as ``iteration_0003``.

    Raises:
        UserError: if a file cannot be renamed.
    """
    renamed = {
        "model_final.pth": f"model_{name}.pth",
        "model_final_ema.pth": f"model_{name}_ema.pth",
        "report.html": f"report_{name}.html",
        "figures": f"figures_{name}",
    }
    try:
        for old, new in renamed.items():
            if not (folder / old).exists():
                continue
            if (folder / new).is_dir():
                shutil.rmtree(folder / new)
            (folder / old).replace(folder / new)
            if old.startswith("model"):
                logger.info("%s, the model of the shorter run, is now %s", old, folder / new)
        for trace in (folder / "trace").glob("*_final.npz"):
            trace.unlink()
    except OSError as error:
        raise UserError(
            f"the results in {str(folder)!r} cannot be renamed ({error.strerror}): move them yourself"
        ) from error
