"""Trained models of every kind that the project writes or reads, behind one function.

No code that a file could hold is run: weights are read as tensors alone, of a configuration only what
describes a model is taken, and an ONNX program is looked at before it is loaded.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from fastreid.config import CfgNode
from torch import nn

from nplp.config.bundles import KEPT, RefusedKeyError, parse_configuration
from nplp.config.keys import default_config
from nplp.config.validation import validate_config
from nplp.engine.output_folder import CONFIG
from nplp.engine.pipeline import load_trained
from nplp.errors import UserError, in_one_line
from nplp.export.verification import RUNTIME, bundle_config
from nplp.files import read_yaml
from nplp.search.embedder import Embedder
from nplp.weights.zoo import (
    SAFETENSORS,
    SUMS,
    WEIGHTS,
    ZOO_PREFIX,
    Bundle,
    find_bundle,
    read_bundle,
    zoo_folder,
)

__all__ = ["load_model"]

FINAL = ("model_final_ema.pth", "model_final.pth")
"""Weights of a run that has ended; the averaged ones are taken where there are some."""

NOT_NEEDED = ("DATASETS", "DATALOADER")
"""Sections of a bundle's configuration that embedding does not need."""


def load_model(source: str | Path, device: str = "") -> Embedder:
    """Return a model that embeds image files.

    Args:
        source: one of

            - a run's folder (``model_final_ema.pth``, else ``model_final.pth``, and ``config.yaml``),
            - a checkpoint file beside its run's ``config.yaml``,
            - a bundle's folder, its ``zoo://NAME`` or its name in the zoo (``NPLP_ZOO``, else ``zoo``),
            - an ``.onnx`` program of a bundle,
            - weights of another project, as :mod:`nplp.weights.source_models` recognises them.
        device: such as "cpu" or "cuda:1"; by default a GPU where there is one. ONNX programs run on the CPU.

    Raises:
        UserError: in one line, if there is no such model, it is damaged, of another kind or would run code.
    """
    text = str(source)
    path = Path(source)
    if text.startswith(ZOO_PREFIX):
        return _of_bundle(find_bundle(text.removeprefix(ZOO_PREFIX)), device)
    if path.is_dir():
        return _of_folder(path, device)
    if path.is_file():
        return _of_file(path, device)
    if (zoo_folder() / text / SUMS).is_file():
        return _of_bundle(find_bundle(text), device)
    raise UserError(
        f"there is no model {text!r}: name a run's folder, a checkpoint, a bundle's folder, its zoo://NAME, "
        "an .onnx file, or a file of weights"
    )


def _of_folder(folder: Path, device: str) -> Embedder:
    """Return the model of a bundle's or a run's folder."""
    if (folder / SUMS).is_file():
        return _of_bundle(read_bundle(folder), device)
    for name in FINAL:
        if (folder / name).is_file():
            return _of_checkpoint(folder / name, device)
    raise UserError(
        f"{str(folder)!r} holds no model: a run that has ended leaves {FINAL[1]} there, a bundle has {SUMS}"
    )


def _of_file(path: Path, device: str) -> Embedder:
    """Return the model of a program, of a bundle's or a run's weights, or of weights alone."""
    if path.suffix.lower() == ".onnx":
        return _of_program(path)
    if path.name in (WEIGHTS, SAFETENSORS) and (path.parent / SUMS).is_file():
        return _of_bundle(read_bundle(path.parent), device)
    if (path.parent / CONFIG).is_file():
        return _of_checkpoint(path, device)
    return _of_weights(path, device)


def _of_bundle(bundle: Bundle, device: str) -> Embedder:
    cfg = bundle_config(bundle)
    return _of_config(cfg, device, f"the bundle {bundle.name}", str(bundle.folder))


def _of_checkpoint(path: Path, device: str) -> Embedder:
    """Return the model of a checkpoint and the configuration beside it."""
    cfg = _config_of_run(path.parent / CONFIG)
    cfg.MODEL.WEIGHTS = str(path)
    return _of_config(cfg, device, f"{path.name} of the run {path.parent.resolve().name}", str(path))


def _config_of_run(path: Path) -> CfgNode:
    """Return of a run's configuration what its model needs, each value of which is looked at.

    Raises:
        UserError: if it cannot be read, or describes no model.
    """
    remedy = "copy it from the run again, or name the weights alone in another folder"
    content = read_yaml(path, remedy)
    kept: dict[str, Any] = {}
    for section, keys in KEPT.items():
        held = content.get(section)
        if section not in NOT_NEEDED and isinstance(held, Mapping):
            kept[section] = {key: value for key, value in held.items() if not keys or key in keys}
    model = kept.get("MODEL", {})
    try:
        model.pop("WEIGHTS", None)
        model["LOSSES"] = {"NAME": []}
        model["BACKBONE"] = {**model["BACKBONE"], "PRETRAIN": False, "PRETRAIN_PATH": ""}
        classes = 0 if model["META_ARCHITECTURE"] == "NPLP" else 1
        model["HEADS"] = {**model["HEADS"], "NUM_CLASSES": classes}
        return parse_configuration(yaml.safe_dump(kept))
    except RefusedKeyError as error:
        raise UserError(f"{str(path)!r} {error}: {remedy}") from error
    except (yaml.YAMLError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{str(path)!r} describes no model ({in_one_line(error, 80)}): {remedy}") from error


def _of_weights(path: Path, device: str) -> Embedder:
    """Return the model of published weights without a configuration."""
    from nplp.weights.source_models import recognise

    found = recognise(str(path))
    cfg = default_config()
    for key, value in found.options.items():
        cfg.merge_from_list([key, value])
    cfg.MODEL.WEIGHTS = found.weights or str(path)
    cfg.MODEL.BACKBONE.PRETRAIN = False
    return _of_config(cfg, device, found.description, str(path))


def _of_config(cfg: CfgNode, device: str, description: str, source: str) -> Embedder:
    """Return the model that a configuration describes, with its weights.

    Raises:
        UserError: if it cannot be built or its weights do not fit.
    """
    cfg.defrost()
    cfg.MODEL.DEVICE = _checked_device(device)
    validate_config(cfg)
    cfg.freeze()
    try:
        model = load_trained(cfg)[0]
    except UserError:
        raise
    except Exception as error:  # the toolbox's builders end in anything at values that no one tried
        raise UserError(f"the model of {source!r} cannot be built ({in_one_line(error)})") from error
    forward = _forward_of(model, torch.device(cfg.MODEL.DEVICE))
    size = (int(cfg.INPUT.SIZE_TEST[0]), int(cfg.INPUT.SIZE_TEST[1]))
    known = getattr(model, "known_cameras", None)
    return Embedder(forward, size, _width_of(forward, size), description, source, known)


def _checked_device(device: str) -> str:
    """Return the device to work on.

    Raises:
        UserError: if there is none of that name.
    """
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:  # the latter is how torch says that it knows no CUDA
        raise UserError(
            f"the device {device!r} cannot be used ({in_one_line(error, 80)}): try cpu"
        ) from error
    return chosen


def _forward_of(
    model: nn.Module, device: torch.device
) -> Callable[[np.ndarray, Sequence[str] | None], np.ndarray]:
    """Return what gives features [B, D] of images [B, H, W, 3] uint8 by a model of torch."""
    model.eval()

    @torch.no_grad()
    def forward(images: np.ndarray, cameras: Sequence[str] | None) -> np.ndarray:
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float().contiguous().to(device)
        given = {"images": pixels} if cameras is None else {"images": pixels, "cameras": list(cameras)}
        features: np.ndarray = model(given).float().cpu().numpy()
        return features

    return forward


def _of_program(path: Path) -> Embedder:
    """Return the model of an ONNX program, which may come from anyone.

    Raises:
        UserError: if it cannot be loaded, or takes something else than images.
    """
    try:
        from nplp.export.running import IMAGES, OnnxModel

        program = OnnxModel(path)
    except ImportError as error:
        raise UserError(
            f"{str(path)!r} needs {' and '.join(RUNTIME)}: pip install 'nplp[deploy]', or name the bundle's "
            "folder"
        ) from error
    given = {put.name: put for put in program.session.get_inputs()}.get(IMAGES)
    shape = given.shape if given is not None and given.type == "tensor(uint8)" else []
    if len(shape) != 4 or shape[3] != 3 or not all(isinstance(side, int) for side in shape[1:3]):
        raise UserError(
            f"{str(path)!r} does not take images as a bundle's programs do ([batch, H, W, 3] uint8, named "
            f"{IMAGES!r}): export it with nplp export"
        )

    def forward(images: np.ndarray, cameras: Sequence[str] | None) -> np.ndarray:
        rows = program.cameras.rows(cameras, len(images)).numpy() if program.cameras else None
        return program.run(images, rows)

    size = (int(shape[1]), int(shape[2]))
    known = program.cameras.known if program.cameras is not None else None
    description = f"the program {path.name} of {path.resolve().parent.name}"
    return Embedder(forward, size, _width_of(forward, size), description, str(path), known)


def _width_of(
    forward: Callable[[np.ndarray, Sequence[str] | None], np.ndarray], size: tuple[int, int]
) -> int:
    """Return D."""
    return int(forward(np.zeros((1, *size, 3), np.uint8), None).shape[1])
