"""Checkpoints that are whole or absent, and weights that fit or are refused."""

import hashlib
import logging
import os
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from fastreid.utils.checkpoint import Checkpointer
from torch import nn

from nplp.errors import UserError

__all__ = ["AtomicCheckpointer", "load_weights", "read_checkpoint", "save_atomically", "write_atomically"]

logger = logging.getLogger(__name__)

KEPT = 2
SUM_DIGITS = 16
PART = ".part"
LAST = "last_checkpoint"
"""Names the last checkpoint, for the toolbox's own tools and for people."""


@contextmanager
def _part_of(path: Path) -> Iterator[Path]:
    """Give the name under which a block writes ``path`` before it renames it; nothing else is left.

    Raises:
        UserError: naming the reason it cannot, such as a full disk, a read-only folder or a limit on files.
    """
    temporary = path.with_name(path.name + PART)
    try:
        yield temporary
    except (OSError, RuntimeError) as error:
        # torch's writer reports a file that cannot grow as a RuntimeError of its own.
        cause = error if isinstance(error, OSError) else error.__context__ or error
        reason = getattr(cause, "strerror", None) or str(cause).partition("\n")[0]
        raise UserError(
            f"{str(path)!r} cannot be written ({reason}): make room or set another OUTPUT_DIR; "
            "what was saved before is whole, and --resume goes on from it"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_atomically(path: Path, content: str) -> None:
    """Write text so that ``path`` holds either its old content or all of the new one.

    Raises:
        UserError: if it cannot be written.
    """
    with _part_of(path) as temporary:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)


class AtomicCheckpointer(Checkpointer):
    """The toolbox's checkpointer with files that are whole, checked and few.

    A file is written under a temporary name, synchronised, and renamed to a name that carries the first
    digits of its SHA-256 sum, so that what was altered afterwards is noticed without another file. The
    last two are kept that are known to be whole.
    """

    def __init__(self, model: nn.Module, save_dir: str = "", **options: Any) -> None:
        """Take what the toolbox's takes."""
        super().__init__(model, save_dir, **options)
        self._known: list[str] = []

    def save(self, name: str, **kwargs: Any) -> None:
        """Write model, checkpointables and ``kwargs`` to ``name-SUM.pth`` and keep the last two whole files.

        Args:
            name: the text order of names is the order in time; ``epoch_NNNN`` or an addition to it.
            kwargs: what is given back when the file is loaded.

        Raises:
            UserError: if the file cannot be written; earlier ones stay.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        data = {"model": self.model.state_dict(), **kwargs}
        data.update({key: item.state_dict() for key, item in self.checkpointables.items()})
        path = save_atomically(data, Path(self.save_dir) / f"{name}.pth", summed=True)
        write_atomically(Path(self.save_dir) / LAST, path.name)
        self._prune(path.name)

    def _prune(self, saved: str) -> None:
        """Remove all but the last two whole checkpoints, and what a killed run left half-written.

        A damaged one is not among the two, whatever its name: it is neither written nor loaded here.
        """
        self._known.append(saved)
        if len(self._known) >= KEPT:
            for old in self.files():
                if old.name not in self._known[-KEPT:]:
                    old.unlink(missing_ok=True)
        for part in Path(self.save_dir).glob(f"epoch_*{PART}"):
            part.unlink(missing_ok=True)

    def save_epoch(self, epoch: int, **kwargs: Any) -> None:
        """Write the state at the end of ``epoch``, counted from 0."""
        self.save(f"epoch_{epoch + 1:04d}_step_000000", epoch=epoch + 1, step=0, **kwargs)

    def save_step(self, epoch: int, step: int, **kwargs: Any) -> None:
        """Write the state after ``step`` steps of ``epoch``, both counted from 0."""
        self.save(f"epoch_{epoch:04d}_step_{step:06d}", epoch=epoch, step=step, **kwargs)

    def files(self) -> list[Path]:
        """Return the checkpoints in the folder, the last one first."""
        return sorted(Path(self.save_dir).glob("epoch_*-*.pth"), reverse=True)

    def has_checkpoint(self) -> bool:
        """Tell whether there is a checkpoint, whole or not."""
        return bool(self.files())

    def get_checkpoint_file(self) -> str:
        """Return the last checkpoint that is whole; a warning names those that are not.

        Raises:
            UserError: if none is.
        """
        damaged: list[str] = []
        for path in self.files():
            if _is_whole(path):
                for name in damaged:
                    logger.warning(
                        "%s is damaged (its SHA-256 sum is not the one in its name): using %s",
                        name,
                        path.name,
                    )
                return str(path)
            damaged.append(path.name)
        raise UserError(
            f"no checkpoint in {self.save_dir} is whole (damaged: {', '.join(damaged)}): "
            "leave --resume out to start afresh"
        )

    def clear(self) -> None:
        """Forget an earlier run's checkpoints in the folder, and what a killed run left half-written."""
        if self.save_dir and self.save_to_disk:
            folder = Path(self.save_dir)
            for old in (folder / LAST, *folder.glob("epoch_*.pth"), *folder.glob(f"*{PART}")):
                old.unlink(missing_ok=True)

    def _load_file(self, f: str) -> dict[str, Any]:
        content = read_checkpoint(f)
        self._known.append(Path(f).name)
        return content


def save_atomically(data: dict[str, Any], path: Path, summed: bool = False) -> Path:
    """Write a checkpoint whole or not at all, and return its path.

    Args:
        data: what ``torch.save`` takes.
        path: where to; an earlier file there is replaced.
        summed: whether to add the first digits of the SHA-256 sum to the name.

    Raises:
        UserError: if it cannot be written; nothing is left of it, and an earlier file stays.
    """
    with _part_of(path) as temporary:
        with open(temporary, "wb") as file:
            torch.save(data, file)
            file.flush()
            os.fsync(file.fileno())
        if summed:
            path = path.with_name(f"{path.stem}-{_sum_of(temporary)}{path.suffix}")
        os.replace(temporary, path)
        _synchronise(path.parent)
    return path


def _sum_of(path: Path) -> str:
    """Return the first digits of a file's SHA-256 sum."""
    total = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()[:SUM_DIGITS]


def _is_whole(path: Path) -> bool:
    """Tell whether a file's sum is the one in its name; one that cannot be read is not whole."""
    try:
        return path.stem.rpartition("-")[2] == _sum_of(path)
    except OSError:
        return False


def _synchronise(folder: Path) -> None:
    """Make a renaming in a folder survive a loss of power, where folders can be synchronised."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_checkpoint(path: str) -> dict[str, Any]:
    """Return a checkpoint's content on the CPU, running no code that a file could hold.

    Raises:
        UserError: if the file does not exist, is torn, altered or not a checkpoint.
    """
    if not os.path.isfile(path):
        raise UserError(f"the weights {path!r} do not exist: give the path of a .pth file")
    try:
        _check_sums(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, OSError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise UserError(
            f"{path!r} cannot be read as weights ({reason}): it is torn or of another kind"
        ) from error
    if not isinstance(checkpoint, dict):
        raise UserError(f"{path!r} holds a {type(checkpoint).__name__}, not a dictionary of weights")
    return checkpoint


def _check_sums(path: str) -> None:
    """Check the CRC-32 sum that ``torch.save`` gives each tensor; ``torch.load`` does not.

    Raises:
        ValueError: if one differs, or the archive is not whole.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            altered = archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(f"damaged archive: {error}") from error
    if altered:
        raise ValueError(f"{altered} was altered: its CRC-32 sum is another")


def load_weights(model: nn.Module, path: str, optional: tuple[str, ...] = ()) -> None:
    """Load a model's weights from a checkpoint and refuse what does not fit.

    Args:
        model: takes the weights.
        path: a file with the weights themselves or with them under ``"model"``.
        optional: prefixes of keys that are not loaded and may be missing or left over, such as those of
            the classifier of the source identities.

    Raises:
        UserError: naming the first key that is missing, left over or of another shape.
    """
    checkpoint = read_checkpoint(path)
    weights = {
        key: value
        for key, value in checkpoint.get("model", checkpoint).items()
        if not key.startswith(optional)
    }
    expected = {key: value for key, value in model.state_dict().items() if not key.startswith(optional)}
    problems = (
        [f"it lacks {key!r}" for key in sorted(expected.keys() - weights.keys())]
        + [f"it has {key!r}, which the model has not" for key in sorted(weights.keys() - expected.keys())]
        + [
            f"{key!r} is {tuple(weights[key].shape)} in the file and {tuple(value.shape)} in the model"
            for key, value in expected.items()
            if key in weights and weights[key].shape != value.shape
        ]
    )
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UserError(
            f"{path!r} does not fit this configuration's model: {problems[0]}{more}: "
            "use the configuration it was trained with"
        )
    model.load_state_dict(weights, strict=False)
    logger.info("Loaded %d tensors from %s", len(weights), path)
