"""A tiny model with a batch norm in each part, images for it, and a step over chunks of a batch."""

from pathlib import Path

import numpy as np
import torch
from fastreid.config import CfgNode
from PIL import Image
from torch import nn

import nplp  # noqa: F401  first: it bridges the toolbox
from nplp.config import default_config
from nplp.data.datasets import Item
from nplp.engine.norm_statistics import refresh_statistics
from nplp.engine.replicas import average_statistics
from nplp.layers import NormGroups, group_batch_norms
from nplp.modeling import NPLP, PAPHead

CAMERAS = 3
CHUNK = 4


def make_cfg(folder: Path, *pairs: object) -> CfgNode:
    """Return a configuration of groups of four images, changed by ``pairs``."""
    cfg = default_config()
    options = {
        "MODEL.DEVICE": "cpu",
        "INPUT.SIZE_TEST": [16, 8],
        "DATALOADER.NUM_WORKERS": 0,
        "NPLP.NORM.REFRESH": True,
        "NPLP.NORM.BATCH": 4,
        "OUTPUT_DIR": str(folder),
    }
    cfg.merge_from_list([*(text for pair in options.items() for text in pair), *pairs])
    return cfg


def write_images(folder: Path, count: int) -> list[Item]:
    """Draw ``count`` images of a few cameras, brighter from one camera to the next."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    items: list[Item] = []
    for number in range(count):
        camera = number % CAMERAS
        values = rng.integers(0, 120, (16, 8, 3)) + 60 * camera
        path = folder / f"{number:02d}.png"
        Image.fromarray(values.astype(np.uint8)).save(path)
        items.append((str(path), f"p_{number // 4}", f"c_{camera}"))
    return items


def build_model(**options: object) -> NPLP:
    """Return a model of two convolutions with a batch norm each, and the neck's."""
    torch.manual_seed(0)
    backbone = nn.Sequential(
        *(nn.Conv2d(3, 5, 4, stride=2), nn.BatchNorm2d(5), nn.ReLU()),
        *(nn.Conv2d(5, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
    )
    losses = ("CenterContrastiveLoss",)
    return NPLP(
        backbone=backbone,
        heads=PAPHead(feat_dim=4, granularities=1, embedding_dim=6, loss_names=losses),
        loss_names=losses,
        pixel_mean=[120.0] * 3,
        pixel_std=[60.0] * 3,
        **options,
    )


def refreshed(folder: Path) -> dict[str, torch.Tensor]:
    """Return the state of a model whose statistics are those of some images, by camera."""
    model = build_model(norm_cameras=True)
    refresh_statistics(make_cfg(folder), model, write_images(folder, 53))
    return model.state_dict()


def trained(rank: int, world_size: int) -> dict[str, torch.Tensor]:
    """Return gradients and statistics after a step over this process's share of 16 images."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.BatchNorm2d(2)
    )
    group_batch_norms(model, NormGroups(CHUNK))
    images = torch.randn(16, 3, 8, 6).chunk(world_size)[rank]
    target = torch.randn(16, 2, 4, 2).chunk(world_size)[rank]
    step = nn.parallel.DistributedDataParallel(model, broadcast_buffers=False) if world_size > 1 else model
    (step(images) - target).square().mean().backward()
    average_statistics(model)
    gradients = {f"grad.{name}": weight.grad for name, weight in model.named_parameters()}
    return {**gradients, **dict(model.named_buffers())}
