"""Checkpoints that are whole or absent, and weights that fit or are refused."""

import logging
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from fastreid.utils.checkpoint import Checkpointer
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from nplp.engine.writing import PART, save_atomically, summed_name, write_atomically
from nplp.errors import UserError
from nplp.export.zoo import resolve_weights

__all__ = ["AtomicCheckpointer", "load_weights", "read_checkpoint"]

logger = logging.getLogger(__name__)

KEPT = 2
LAST = "last_checkpoint"
"""Names the last checkpoint, for the toolbox's own tools and for people."""

UNREADABLE = (
    RuntimeError,
    EOFError,
    pickle.UnpicklingError,
    OSError,
    KeyError,
    ValueError,
    SafetensorError,
)
"""What reading a file that is torn or of another kind ends in."""


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


def _is_whole(path: Path) -> bool:
    """Tell whether a file's sum is the one in its name; one that cannot be read is not whole."""
    try:
        return summed_name(path.with_stem(path.stem.rpartition("-")[0]), path).name == path.name
    except OSError:
        return False


def read_checkpoint(path: str) -> dict[str, Any]:
    """Return a checkpoint's content on the CPU, running no code that a file could hold.

    Args:
        path: a ``.pth`` or ``.safetensors`` file, or ``zoo://NAME``.

    Raises:
        UserError: if the file does not exist, is torn, altered or not a checkpoint.
    """
    path = resolve_weights(path)
    if not os.path.isfile(path):
        raise UserError(f"the weights {path!r} do not exist: give the path of a .pth file")
    try:
        _check_sums(path)
        if path.endswith(".safetensors"):
            return load_file(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
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


def load_weights(
    model: nn.Module, path: str, optional: tuple[str, ...] = (), initial: tuple[str, ...] = ()
) -> None:
    """Load a model's weights from a checkpoint and refuse what does not fit.

    Args:
        model: takes the weights.
        path: a file with the weights themselves or with them under ``"model"``, or ``zoo://NAME``.
        optional: prefixes of keys that are not loaded and may be missing or left over, such as those of
            the classifier of the source identities.
        initial: prefixes of keys that are loaded, and keep their initial values where the file has none
            of them.

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
    untrained = tuple(prefix for prefix in initial if not any(key.startswith(prefix) for key in weights))
    if untrained:
        logger.info("%s has no %s*: the initial values stay", path, "*, ".join(untrained))
        expected = {key: value for key, value in expected.items() if not key.startswith(untrained)}
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
