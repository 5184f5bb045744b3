"""Checkpoints that are whole or absent, and weights that fit or are refused."""

import logging
import os
import pickle
from pathlib import Path
from typing import Any

import torch
from fastreid.utils.checkpoint import Checkpointer
from torch import nn

from nplp.errors import UserError

__all__ = ["AtomicCheckpointer", "load_weights", "read_checkpoint", "save_atomically", "write_atomically"]

logger = logging.getLogger(__name__)

KEPT = 2


def write_atomically(path: Path, content: str) -> None:
    """Write text so that ``path`` holds either its old content or all of the new one."""
    temporary = path.with_name(f"{path.name}.part")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


class AtomicCheckpointer(Checkpointer):
    """The toolbox's checkpointer, writing each file under a temporary name first.

    A checkpoint of an epoch is named ``epoch_NNNN``; the last two of them are kept.
    """

    def save(self, name: str, **kwargs: Any) -> None:
        """Write the model, the checkpointables and ``kwargs`` to ``name.pth``, then name it the last."""
        if not self.save_dir or not self.save_to_disk:
            return
        data = {"model": self.model.state_dict(), **kwargs}
        data.update({key: item.state_dict() for key, item in self.checkpointables.items()})
        path = Path(self.save_dir) / f"{name}.pth"
        save_atomically(data, path)
        self.tag_last_checkpoint(path.name)

    def save_epoch(self, epoch: int, **kwargs: Any) -> None:
        """Write the state at the end of ``epoch`` (counted from 0) and remove all but the last two."""
        self.save(f"epoch_{epoch:04d}", epoch=epoch, **kwargs)
        if self.save_dir and self.save_to_disk:
            for old in sorted(Path(self.save_dir).glob("epoch_*.pth"))[:-KEPT]:
                old.unlink()

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Name the file that a resume loads."""
        write_atomically(Path(self.save_dir) / "last_checkpoint", last_filename_basename)

    def clear(self) -> None:
        """Forget an earlier run's checkpoints in the folder."""
        if self.save_dir and self.save_to_disk:
            folder = Path(self.save_dir)
            for old in (folder / "last_checkpoint", *folder.glob("epoch_*.pth")):
                old.unlink(missing_ok=True)

    def _load_file(self, f: str) -> dict[str, Any]:
        return read_checkpoint(f)


def save_atomically(data: dict[str, Any], path: Path) -> None:
    """Write a checkpoint so that ``path`` is either the old file or the whole new one."""
    temporary = path.with_name(f"{path.name}.part")
    with open(temporary, "wb") as file:
        torch.save(data, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read_checkpoint(path: str) -> dict[str, Any]:
    """Return a checkpoint's content on the CPU, running no code that a file could hold.

    Raises:
        UserError: if the file does not exist, is torn or is not a checkpoint.
    """
    if not os.path.isfile(path):
        raise UserError(f"the weights {path!r} do not exist: give the path of a .pth file")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, OSError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise UserError(
            f"{path!r} cannot be read as weights ({reason}): it is torn or of another kind"
        ) from error
    if not isinstance(checkpoint, dict):
        raise UserError(f"{path!r} holds a {type(checkpoint).__name__}, not a dictionary of weights")
    return checkpoint


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
