"""Running statistics of batch norms, estimated anew over a target's images.

In training a running mean and variance follow the last hundred batches or so, of augmented images and of
weights that have changed since. What reads them, extraction and evaluation, then sees another network than
training did. Here they are estimated for the weights as they are, over the images as they will be shown.

The rule: the images are put into an order that the seed alone gives and cut into groups of about
``NPLP.NORM.BATCH`` images. Each group runs through the network, every batch norm of which normalises it by
the group's own mean and variance, as in training. A layer's statistics are those of all values that came to
it,

    mean = sum_g n_g m_g / n,    variance = sum_g n_g (v_g + (m_g - mean)^2) / n,

with n_g, m_g and v_g the values of a channel in group g, their mean and their variance; torch's convention
divides by n - 1. The groups are a part of the rule: what a layer sees depends on how the layers before it
normalised. Batches of loaders and numbers of processes have no influence beyond rounding, running statistics
from before have none at all.

Prior art: AdaBN (Li et al., arXiv 1603.04779) takes them from the target; "precise" statistics in place of
moving ones are in Wu and Johnson, arXiv 2105.07576, section 3.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import torch
from fastreid.config import CfgNode
from fastreid.utils import comm
from torch import nn
from tqdm import tqdm

from nplp.config.choices import EMBEDDING
from nplp.data.datasets import Item, index_cameras
from nplp.data.loaders import build_group_loader
from nplp.distributed.collectives import all_shares
from nplp.errors import UserError
from nplp.memory import is_out_of_memory
from nplp.modeling import NPLP

__all__ = ["refresh_statistics", "refreshes"]

logger = logging.getLogger(__name__)

LEAST_OF_CAMERA = 16
"""Images from which a camera has batch-norm statistics of its own: fewer show a few people alone."""


class _BatchNorm(Protocol):
    """What is used of a batch norm that keeps running statistics."""

    running_mean: torch.Tensor
    running_var: torch.Tensor
    num_batches_tracked: torch.Tensor | None
    num_features: int
    momentum: float | None

    def train(self) -> object: ...
    def register_forward_hook(self, hook: Any) -> Any: ...


def refreshes(cfg: CfgNode) -> bool:
    """Tell whether a run estimates statistics of batch norms."""
    return cfg.NPLP.NORM.REFRESH or cfg.MODEL.NORM_CAMERAS


def refresh_statistics(cfg: CfgNode, model: NPLP, items: list[Item]) -> None:
    """Estimate the running mean and variance of every batch norm anew, over ``items``.

    With ``MODEL.NORM_CAMERAS`` the backbone's are then estimated for each camera too, by groups of its own
    images, and the neck's by the features that come of it. A camera of fewer than :data:`LEAST_OF_CAMERA`
    images takes the statistics of all.

    Nothing happens where the configuration does not ask for it (:func:`refreshes`), there is no image, or the
    model has no batch norm.
    All processes share the work, must make this call, and end with the same numbers.

    Time: one forward pass over the images, as long as extracting their features, and a second one for
    cameras. Memory: the forward pass of ``NPLP.NORM.BATCH`` images, and some six float64 numbers for each
    channel of a batch norm, of each camera.

    Args:
        cfg: the configuration; ``NPLP.NORM`` is read.
        model: without a wrapper; its weights, modes and counters stay as they are.
        items: of the target's training set; identities are not looked at.

    Raises:
        UserError: if a group does not fit into memory, or there is a single image.
    """
    if not refreshes(cfg) or not items:
        return
    norms = _batch_norms(model)
    if not norms:
        return
    if len(items) < 2:
        raise UserError(
            "NPLP.NORM.REFRESH and MODEL.NORM_CAMERAS need at least 2 images of the target, got 1: set them "
            "to False"
        )
    begin = time.monotonic()
    before = _Moments(
        torch.zeros(1),
        torch.cat([norm.running_mean for norm in norms]).double(),
        torch.cat([norm.running_var for norm in norms]).double(),
    )
    groups = [(0, group) for group in _groups(cfg, np.arange(len(items)))]
    moments = _run(cfg, model, norms, items, groups, rows=1).together().where_seen(before)
    if model.camera_norms is not None:
        moments = _refresh_cameras(cfg, model, norms, items, moments)
    _write(norms, moments)
    logger.info(
        "  Batch norms: statistics of %d images%s in %.1f s",
        sum(len(group) for _, group in groups),
        "" if model.camera_norms is None else ", and of each camera's,",
        time.monotonic() - begin,
    )


def _refresh_cameras(
    cfg: CfgNode, model: NPLP, norms: list[_BatchNorm], items: list[Item], overall: "_Moments"
) -> "_Moments":
    """Give a model with camera norms its tables; return the moments of all images together.

    Those of the neck are of the features that come of the cameras' statistics.
    """
    assert model.cameras is not None
    assert model.camera_norms is not None
    rows = index_cameras(items)
    model.cameras.assign(str(camera) for _, _, camera in items)
    counts = np.bincount(rows, minlength=model.cameras.other)
    own = np.flatnonzero(counts >= LEAST_OF_CAMERA)
    width = model.camera_norms.width
    groups = [(row, group) for row in own.tolist() for group in _groups(cfg, np.flatnonzero(rows == row))]
    pooled = _run(cfg, model, norms, items, groups, rows=len(counts))
    of_camera, together = pooled.moments(), pooled.together().where_seen(overall)
    has_own = torch.from_numpy(counts >= LEAST_OF_CAMERA)[:, None].to(overall.mean.device)
    tables = [
        torch.cat([torch.where(has_own, table[:, :width], all_images[:width]), all_images[None, :width]])
        for table, all_images in ((of_camera.mean, overall.mean), (of_camera.variance, overall.variance))
    ]
    model.camera_norms.assign(*tables)
    # The backbone comes first in the model, and so do its norms.
    return _Moments(
        overall.count,
        torch.cat([overall.mean[:width], together.mean[width:]]),
        torch.cat([overall.variance[:width], together.variance[width:]]),
    )


def _batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """Return the batch norms that keep running statistics, in the order of the model."""
    kinds = nn.modules.batchnorm._BatchNorm
    return [
        cast(_BatchNorm, module)
        for module in model.modules()
        if isinstance(module, kinds) and module.track_running_stats
    ]


def _write(norms: list[_BatchNorm], moments: "_Moments") -> None:
    """Give each batch norm its columns of ``moments``."""
    widths = [norm.num_features for norm in norms]
    columns = zip(norms, moments.mean.split(widths), moments.variance.split(widths), strict=True)
    for norm, mean, variance in columns:
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)


def _groups(cfg: CfgNode, numbers: np.ndarray) -> list[np.ndarray]:
    """Return the numbers of images in groups of equal sizes, or one image apart, in the order of the seed."""
    options = cfg.NPLP.NORM
    order = np.random.default_rng(cfg.SEED).permutation(numbers)[: options.IMAGES or len(numbers)]
    return np.array_split(order, -(-len(order) // options.BATCH))


@dataclass(frozen=True)
class _Moments:
    """Number of values, mean and unbiased variance of S channels, float64: [S] or [rows, S] each."""

    count: torch.Tensor
    mean: torch.Tensor
    variance: torch.Tensor

    def where_seen(self, other: "_Moments") -> "_Moments":
        """Return the moments, but ``other``'s of channels that no value came to: no feature reads them."""
        seen = self.count > 0
        return _Moments(
            self.count,
            torch.where(seen, self.mean, other.mean),
            torch.where(seen, self.variance, other.variance),
        )


class _Pooled:
    """Number, mean and sum of squared deviations of what comes to S channels, for each of some cameras.

    Groups are merged by the update of Chan, Golub and LeVeque, in float64.
    """

    def __init__(self, norms: list[_BatchNorm], rows: int) -> None:
        self._widths = [norm.num_features for norm in norms]
        device = norms[0].running_mean.device
        self._sums = torch.zeros(3, rows, sum(self._widths), dtype=torch.float64, device=device)
        self.row = 0

    def add(self, layer: int, count: int, mean: torch.Tensor, variance: torch.Tensor) -> None:
        """Take ``count`` values a channel, their mean [C] and unbiased variance [C], for the present row."""
        part = self._sums[:, self.row].split(self._widths, dim=1)[layer]
        more = torch.stack([torch.full_like(mean, count), mean, variance * (count - 1)]).double()
        part.copy_(_merged(part, more))

    def share(self) -> None:
        """Merge what all processes have, in the order of their numbers."""
        self._sums = _merged_all(all_shares(self._sums))

    def moments(self) -> _Moments:
        """Return the moments of each row, [rows, S]."""
        return self._moments(self._sums)

    def together(self) -> _Moments:
        """Return the moments of all rows together, [S]."""
        return self._moments(_merged_all(list(self._sums.unbind(dim=1))))

    @staticmethod
    def _moments(sums: torch.Tensor) -> _Moments:
        return _Moments(sums[0], sums[1], sums[2] / (sums[0] - 1).clamp_min(1))


def _merged_all(parts: list[torch.Tensor]) -> torch.Tensor:
    merged = parts[0]
    for more in parts[1:]:
        merged = _merged(merged, more)
    return merged


def _merged(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return count, mean and sum of squared deviations [3, ...] of two lots of values together."""
    count = one[0] + other[0]
    share = other[0] / count.clamp_min(1)
    step = other[1] - one[1]
    return torch.stack([count, one[1] + step * share, one[2] + other[2] + step.square() * one[0] * share])


@torch.no_grad()
def _run(
    cfg: CfgNode,
    model: NPLP,
    norms: list[_BatchNorm],
    items: list[Item],
    groups: list[tuple[int, np.ndarray]],
    rows: int,
) -> _Pooled:
    """Run this process's groups through the model; return the sums of all processes.

    Args:
        cfg: the configuration.
        model: shows images to ``norms``.
        norms: all of its batch norms.
        items: the images.
        groups: of images that are normalised together, each with its row of the result.
        rows: of the result.
    """
    pooled = _Pooled(norms, rows)
    own = groups[comm.get_rank() :: comm.get_world_size()]
    loader = build_group_loader(cfg, items, [group for _, group in own])
    bar = tqdm(
        loader,
        desc="Statistics of batch norms",
        unit="batch",
        leave=False,
        disable=None if comm.is_main_process() else True,
    )
    try:
        with _observed(model, norms, pooled):
            for (pooled.row, _), batch in zip(own, bar, strict=True):
                _forward(model, batch["images"])
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"NPLP.NORM.BATCH {cfg.NPLP.NORM.BATCH}: a forward pass of so many images does not fit into "
            "memory: lower it, and --resume from the last epoch"
        ) from error
    pooled.share()
    return pooled


def _forward(model: NPLP, images: torch.Tensor) -> None:
    """Show ``images`` to every batch norm: also to the neck, which evaluation may leave out."""
    with model.raw_features():
        feature = model({"images": images})
    neck = model.heads.neck
    if neck is not None and model.heads.output == EMBEDDING:
        neck(feature)


@contextmanager
def _observed(model: NPLP, norms: list[_BatchNorm], pooled: _Pooled) -> Iterator[None]:
    """Let each batch norm normalise by the batch it is shown, and tell ``pooled`` its statistics.

    Everything else is as in evaluation. Modes, momenta and counters are put back afterwards.
    """
    modes = [(module, module.training) for module in model.modules()]
    kept = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    model.eval()
    with ExitStack() as hooks:
        for layer, norm in enumerate(norms):
            norm.train()
            # The running statistics are then those of the last batch.
            norm.momentum, norm.num_batches_tracked = 1.0, None

            def tell(module: Any, inputs: Any, output: torch.Tensor, layer: int = layer) -> None:
                del inputs
                count = output.numel() // module.num_features
                pooled.add(layer, count, module.running_mean, module.running_var)

            hooks.callback(norm.register_forward_hook(tell).remove)
        whole, model.norm_groups.whole = model.norm_groups.whole, True
        try:
            yield
        finally:
            model.norm_groups.whole = whole
            for norm, momentum, counter in kept:
                norm.momentum, norm.num_batches_tracked = momentum, counter
            for module, training in modes:
                module.training = training
