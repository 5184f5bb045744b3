"""Writes the programs of a bundle, compares each with the model and measures what it loses."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastreid.config import CfgNode
from fastreid.data.transforms import build_transforms
from tabulate import tabulate
from torch import nn
from tqdm import tqdm

from nplp.data.datasets import ReidData, load_training_items
from nplp.data.loaders import ImageSet
from nplp.engine.evaluating import evaluate
from nplp.errors import UserError
from nplp.export.converters import FORMATS, export_float16, export_int8, export_onnx, export_torch
from nplp.export.running import LEAST_COSINE, OnnxModel, check_agreement

__all__ = ["CALIBRATION_IMAGES", "IN_BYTES", "format_programs", "target_crops", "write_programs"]

logger = logging.getLogger(__name__)

CALIBRATION_IMAGES = 256
IN_BYTES = ("int8-dynamic", "int8-calibrated")
"""Formats whose ranges are made for real images and do not hold noise."""


def write_programs(
    cfg: CfgNode,
    model: nn.Module,
    folder: Path,
    formats: list[str],
    test_sets: list[ReidData],
    reference: dict[str, float],
) -> dict[str, dict[str, Any]]:
    """Write programs into a bundle's folder, compare each with the model and measure it.

    Args:
        cfg: the configuration, for the processor.
        model: what the programs are made from.
        folder: of the bundle.
        formats: of :data:`FORMATS`, those first from which others are made.
        test_sets: what programs are evaluated on; none: they are not.
        reference: the model's own metrics.

    Returns:
        By format: ``file``, ``bytes``, ``cosine`` (see :func:`check_agreement`) and, where measured,
        ``Rank-1``, ``mAP`` and ``mAP loss`` in percentage points.

    Raises:
        UserError: if a program in float32 disagrees with the model, or there is no image to calibrate with.
    """
    if not formats:
        return {}
    height, width = cfg.INPUT.SIZE_TEST
    crops = target_crops(cfg, test_sets, substitute="int8-calibrated" not in formats)
    if "int8-calibrated" in formats and not len(crops):
        raise UserError("--formats int8-calibrated needs images of DATASETS.NAMES: leave --no-evaluate out")
    programs: dict[str, dict[str, Any]] = {}
    for name in tqdm(formats, desc="Programs", unit="program", leave=False, disable=None):
        path, source = folder / FORMATS[name], folder / FORMATS["onnx"]
        if name == "onnx":
            export_onnx(model, (height, width), path)
        elif name == "float16":
            export_float16(source, path)
        elif name == "torch-export":
            export_torch(model, (height, width), path)
        else:
            export_int8(source, path, crops if name == "int8-calibrated" else None)
        cosine = check_agreement(model, path, (height, width), crops[:64], noise=name not in IN_BYTES)
        if name in ("onnx", "torch-export") and not cosine >= LEAST_COSINE:
            raise UserError(
                f"the {name} program's embeddings differ from the model's (cosine {cosine:.6f}, at least "
                f"{LEAST_COSINE} is expected): export without it and report the backbone"
            )
        programs[name] = {"file": path.name, "bytes": path.stat().st_size, "cosine": round(cosine, 6)}
        if test_sets and path.suffix == ".onnx":
            metrics = evaluate(cfg, OnnxModel(path), test_sets)
            programs[name].update({key: metrics[key] for key in ("Rank-1", "mAP")})
            programs[name]["mAP loss"] = round(reference["mAP"] - metrics["mAP"], 4)
    return programs


def target_crops(cfg: CfgNode, test_sets: list[ReidData], substitute: bool = False) -> np.ndarray:
    """Return images [N, H, W, 3] uint8 spread evenly over the training set; none without evaluation.

    They are read and resized as those that the model is evaluated on.

    Args:
        cfg: the configuration; ``DATASETS.NAMES`` and ``INPUT.SIZE_TEST`` are read.
        test_sets: those evaluated on.
        substitute: whether the first gallery may stand in for a training set that cannot be read.

    Raises:
        UserError: as :func:`load_training_items`, or if an image cannot be read.
    """
    height, width = cfg.INPUT.SIZE_TEST
    if not test_sets:
        return np.zeros((0, height, width, 3), np.uint8)
    try:
        items = load_training_items(cfg)
    except UserError as error:
        if not substitute:
            raise
        logger.info(
            "Programs are compared on images of the gallery, as for training there are none: %s", error
        )
        items = test_sets[0].gallery
    chosen = np.unique(np.linspace(0, len(items) - 1, CALIBRATION_IMAGES).astype(int))
    images = ImageSet(items, build_transforms(cfg, is_train=False))
    return np.stack([images[i]["images"].permute(1, 2, 0).to(torch.uint8).numpy() for i in chosen])


def format_programs(programs: dict[str, dict[str, Any]]) -> str:
    """Return a table of the programs for the screen."""
    keys = ("file", "bytes", "cosine", "Rank-1", "mAP", "mAP loss")
    rows = [[program.get(key, "") for key in keys] for program in programs.values()]
    return tabulate(rows, headers=["", "bytes", "cosine", "Rank-1", "mAP", "lost mAP"], floatfmt=".4f")
