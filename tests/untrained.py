"""A model that nobody trained, in the form of a run, and crops of drawn people."""

from pathlib import Path

import numpy as np
import torch
from fastreid.config import CfgNode
from PIL import Image

from nplp.engine.supervised import SupervisedTrainer
from nplp.modeling.camera_statistics import statistics_by_camera
from tiny import make_tiny_cfg

CAMERAS = ("gate", "hall é")


def make_run(folder: Path, *pairs: object, cameras: tuple[str, ...] = (), seed: int = 0) -> CfgNode:
    """Write a run's folder with a random model, and return its configuration.

    With ``cameras`` it has statistics of them, of random features.
    """
    if cameras:
        pairs = (*pairs, "TEST.CAMERAS", "mean")
    cfg = make_tiny_cfg(folder / "none", folder, *pairs)
    torch.manual_seed(seed)
    model = SupervisedTrainer.build_model(cfg)
    if cameras:
        model.cameras.assign(cameras)
        features, rows = torch.randn(60, cfg.MODEL.HEADS.EMBEDDING_DIM), torch.arange(60) % len(cameras)
        features += rows[:, None]
        model.camera_statistics.assign(statistics_by_camera(features, rows, len(cameras)))
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"model": model.state_dict()}, folder / "model_final.pth")
    (folder / "config.yaml").write_text(cfg.dump(), encoding="utf-8")
    return cfg


def draw_crops(
    folder: Path, people: int = 6, images: int = 10, cameras: tuple[str, ...] = CAMERAS
) -> list[Path]:
    """Write crops into a folder for each camera, and return them in the order of their paths.

    Each person has two colours of their own, and each image some noise.
    """
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (people, 2, 3))
    paths = []
    for number in range(people * images):
        person = number % people
        pixels = np.repeat(colours[person], 32, axis=0)[:, None] + rng.normal(0, 6, (64, 32, 3))
        path = folder / CAMERAS[number // people % len(CAMERAS)] / f"person {person} image {number} 😀.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
        paths.append(path)
    return sorted(paths)


def person_of(path: str | Path) -> int:
    """Return who a drawn crop shows."""
    return int(Path(path).name.split()[1])
