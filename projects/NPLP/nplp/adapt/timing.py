"""How long an adaptation takes on this machine: a few batches are timed, the rest is counted."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from fastreid.config import CfgNode
from fastreid.data.transforms import build_transforms
from torch import nn

from nplp.adapt.facts import none_readable
from nplp.config.choices import CAMERA_NONE
from nplp.data.decoded import crops_kept
from nplp.data.items import Item
from nplp.data.loaders import ImageSet
from nplp.engine.norm_statistics import refreshes
from nplp.errors import UserError

__all__ = ["Speed", "expected_seconds", "in_words", "measure_speed"]

TIMED = 2
"""Batches that are timed, after one that is not."""


@dataclass(frozen=True)
class Speed:
    """Seconds of this machine: an image ``decoded``, ``read`` again and ``embedded``, a training ``step``."""

    decoded: float
    read: float
    embedded: float
    step: float


def measure_speed(cfg: CfgNode, backbone: nn.Module, items: Sequence[Item]) -> Speed:
    """Time the decoding of images, the backbone's pass forward, and a pass forward and back.

    The backbone's buffers and gradients change: give one that is not used afterwards.

    Args:
        cfg: the configuration; sizes, batch and device are read.
        backbone: [B, 3, H, W] to a feature map.
        items: training items, of which one batch is decoded.

    Raises:
        UserError: if no image of that batch can be read.
    """
    batch = min(cfg.SOLVER.IMS_PER_BATCH, len(items))
    chosen = list(items[:: max(1, len(items) // batch)])[:batch]
    with crops_kept(cfg):
        images = ImageSet(chosen, build_transforms(cfg, is_train=True))
        first = [_seconds_of_reading(images, number) for number in range(len(images))]
        readable = [number for number, seconds in enumerate(first) if seconds is not None]
        if not readable:
            raise none_readable(chosen)
        again = [_seconds_of_reading(images, number) for number in readable]
    batch = len(readable)
    decoded, read = (sum(seconds or 0.0 for seconds in each) / batch for each in (first, again))
    noise = torch.rand(batch, 3, *cfg.INPUT.SIZE_TRAIN, device=cfg.MODEL.DEVICE)
    backbone.to(cfg.MODEL.DEVICE)

    def embed() -> None:
        with torch.no_grad():
            backbone(noise)

    backbone.eval()
    embedded = _seconds(embed, cfg)
    backbone.train()
    step = _seconds(lambda: backbone(noise).square().mean().backward(), cfg)
    return Speed(decoded, read, embedded / batch, step * cfg.SOLVER.IMS_PER_BATCH / batch)


def _seconds_of_reading(images: ImageSet, number: int) -> float | None:
    """Return how long an image takes; ``None`` for one that cannot be read."""
    start = time.perf_counter()
    try:
        images[number]
    except UserError:
        return None
    return time.perf_counter() - start


def _seconds(work: Callable[[], object], cfg: CfgNode) -> float:
    """Return the seconds of one call, after a first one that is not counted."""
    on_gpu = torch.device(cfg.MODEL.DEVICE).type == "cuda"
    work()
    if on_gpu:
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(TIMED):
        work()
    if on_gpu:
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / TIMED


def expected_seconds(cfg: CfgNode, speed: Speed, images: int, tested: int) -> float:
    """Return what a whole run takes, should NPLP.STOP not end it before.

    Clustering is left out: it is a small part of a pass over the images at every size (docs/scaling.md).

    Args:
        cfg: the configuration; the schedule is read, of which NPLP.STEPS_PER_EPOCH must be given.
        speed: of the machine.
        images: of the target to train on.
        tested: images that evaluation embeds; 0: none.
    """
    options = cfg.NPLP
    workers = cfg.DATALOADER.NUM_WORKERS
    steps = options.ITERATIONS * options.EPOCHS_PER_ITERATION * options.STEPS_PER_EPOCH
    refreshed = refreshes(cfg)
    # An iteration embeds the target once for labels; batch norms of each camera take a pass before it.
    passes = options.ITERATIONS * (1 + refreshed)
    measured = refreshed + (cfg.TEST.CAMERAS != CAMERA_NONE)
    evaluations = 1 + (1 + options.EMA) * (
        options.ITERATIONS // options.EVAL_PERIOD if options.EVAL_PERIOD else 1
    )
    embedded = passes * images + evaluations * (tested + measured * images)
    # An image is decoded once, and then read from where it is kept.
    loaded = speed.read / max(1, workers)
    decoded = (images + tested) * (speed.decoded - speed.read) / max(1, workers)
    loaded_batch = cfg.SOLVER.IMS_PER_BATCH * loaded
    # Workers load while the model trains.
    step = max(speed.step, loaded_batch) if workers else speed.step + loaded_batch
    return decoded + steps * step + embedded * (speed.embedded + loaded)


def in_words(seconds: float) -> str:
    """Return a duration as people say it, such as "about 12 minutes"."""
    if seconds < 90:
        return "about a minute"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} minutes"
    return f"about {seconds / 3600:.1f} hours"
