"""The sample's features for TensorBoard's projector, with their images."""

import io
import shutil
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from nplp.report.crops import read_crop
from nplp.report.reading import TRACED, read_run

__all__ = ["write_projection"]

FOLDER = "projection"
SIDE = 32
"""Pixels of an image in the projector's sprite, whose own side may be 8,192 at most."""


def write_projection(folder: Path) -> Path | None:
    """Write the features of the sample at each stage into OUTPUT_DIR/projection for ``tensorboard --logdir``.

    Args:
        folder: OUTPUT_DIR of a run.

    Returns:
        The folder of the events, or ``None`` where the run left no features.

    Raises:
        UserError: if the folder is not one of a run.
    """
    run = read_run(folder)
    images, target = run.images, folder / FOLDER
    traces = {stage: run.trace(f"features_{stage}") for stage in TRACED}
    features_by_stage = {stage: arrays["features"] for stage, arrays in traces.items() if arrays}
    if not images or not features_by_stage:
        return None
    sample = images["sample"]
    pictures = np.stack([np.asarray(read_crop(str(path), (SIDE, SIDE))) for path in images["paths"][sample]])
    labels = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    rows = [[str(images["cameras"][number] + 1)] for number in sample]
    header = ["camera"]
    if "identities" in images:
        header.append("person")
        people = images["identities"][sample]
        names = ["unknown" if person < 0 else str(person) for person in people]
        rows = [[*row, name] for row, name in zip(rows, names, strict=True)]
    shutil.rmtree(target, ignore_errors=True)
    with SummaryWriter(str(target)) as writer, redirect_stdout(io.StringIO()):
        for step, (stage, features) in enumerate(features_by_stage.items()):
            writer.add_embedding(
                features.astype(np.float32),
                metadata=rows if len(header) > 1 else [row[0] for row in rows],
                label_img=labels,
                global_step=step,
                tag=stage,
                metadata_header=header if len(header) > 1 else None,
            )
    return target
