"""Checkpoints that are whole or absent, and weights that fit or are refused."""

import logging
from pathlib import Path
from typing import Any, cast

from fastreid.utils.checkpoint import Checkpointer
from torch import nn

from nplp.config.choices import EMBEDDING
from nplp.errors import UserError, in_one_line, printable
from nplp.files import PART, save_atomically, summed_name, write_atomically
from nplp.layers import HyperNetwork
from nplp.modeling import NPLP
from nplp.modeling.camera_statistics import CAMERA_STATE
from nplp.weights.files import read_weights_file
from nplp.weights.fitting import NORMALISATION, fit_weights
from nplp.weights.own_heads import POWER
from nplp.weights.zoo import resolve_weights

__all__ = ["AtomicCheckpointer", "load_weights", "read_checkpoint"]

logger = logging.getLogger(__name__)

KEPT = 2
SHOWN = 12
"""Names of cameras in a line of the log."""
LAST = "last_checkpoint"
"""Names the last checkpoint, for the toolbox's own tools and for people."""


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

    def _load_model(self, checkpoint: dict[str, Any]) -> None:
        """Load a run's own weights; the toolbox's method would leave out what does not fit.

        Raises:
            UserError: if a tensor is missing, left over or of another shape.
        """
        try:
            self.model.load_state_dict(checkpoint.pop("model"))
        except RuntimeError as error:
            raise UserError(
                f"a checkpoint in {self.save_dir} does not fit this configuration's model "
                f"({in_one_line(error)}): resume with the configuration of the run, or leave --resume out to "
                "start afresh"
            ) from error


def _is_whole(path: Path) -> bool:
    """Tell whether a file's sum is the one in its name; one that cannot be read is not whole."""
    try:
        return summed_name(path.with_stem(path.stem.rpartition("-")[0]), path).name == path.name
    except OSError:
        return False


def read_checkpoint(path: str) -> dict[str, Any]:
    """Return a checkpoint's content on the CPU, running no code that a file could hold.

    Args:
        path: a file of ``torch.save`` or of safetensors, or ``zoo://NAME``.

    Raises:
        UserError: if the file does not exist, is torn, altered or not a checkpoint, or would run code.
    """
    path = resolve_weights(path)
    checkpoint = read_weights_file(path)
    if not isinstance(checkpoint, dict):
        raise UserError(f"{path!r} holds a {type(checkpoint).__name__}, not a dictionary of weights")
    return checkpoint


def load_weights(
    model: nn.Module, path: str, optional: tuple[str, ...] = (), initial: tuple[str, ...] = ()
) -> None:
    """Load a model's weights from a checkpoint, say in one line what was used, and refuse what does not fit.

    Names of other projects, wrappers and heads are understood, see :func:`nplp.weights.fitting.fit_weights`.

    Args:
        model: takes the weights; it is as it was where they are refused.
        path: a file with the weights themselves or with them under an entry such as ``"model"``, or
            ``zoo://NAME``.
        optional: prefixes of keys that are not loaded and may be missing or left over, such as those of
            the classifier of the source identities.
        initial: prefixes of keys that are loaded, and keep their initial values where the file has none
            of them.

    Statistics of cameras are taken where the model uses them and ``optional`` does not name them.

    Raises:
        UserError: saying what the file holds, or naming the first key that is missing, left over or of
            another shape.
    """
    takes_cameras = (
        isinstance(model, NPLP) and model.cameras is not None and not set(CAMERA_STATE) <= set(optional)
    )
    head = model.heads if isinstance(model, NPLP) else None
    fit = fit_weights(
        read_checkpoint(path),
        model.state_dict(),
        path,
        optional=optional if takes_cameras else (*optional, *CAMERA_STATE),
        # A pooling whose power was not trained has none in its file.
        initial=(*initial, POWER),
        # The paper's own head, f_e of pooled features, has no use for another's neck.
        own_neck=head is not None
        and (head.output != EMBEDDING or isinstance(head.hyper_network, HyperNetwork)),
        reshape=getattr(getattr(model, "backbone", None), "fit_tensor", None),
        measured=CAMERA_STATE if takes_cameras else (),
        normalisation={key: value for key, value in model.named_buffers() if key in NORMALISATION},
    )
    model.load_state_dict(fit.weights, strict=False)
    logger.info("%s", fit.summary)
    if takes_cameras:
        _say_cameras(cast(NPLP, model), path)


def _say_cameras(model: NPLP, path: str) -> None:
    """Say by which cameras' statistics a model corrects its features."""
    if model.camera_norms is not None and not model.camera_norms.measured:
        logger.warning(
            "%s has no statistics of cameras for batch norms: they are those of all images, in spite of "
            "MODEL.NORM_CAMERAS True",
            path,
        )
    if model.camera_statistics is None:
        return
    known = model.known_cameras
    if known is None:
        logger.warning(
            "%s has no statistics of cameras: features stay as they are, in spite of TEST.CAMERAS %s",
            path,
            model.camera_statistics.treatment,
        )
        return
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    logger.info(
        "Features are corrected (TEST.CAMERAS %s) by the statistics of %s%s; of other cameras by the overall",
        model.camera_statistics.treatment,
        ", ".join(map(printable, known[:SHOWN])),
        more,
    )
