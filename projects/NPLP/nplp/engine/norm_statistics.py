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
from typing import Any, Protocol, cast

import numpy as np
import torch
from fastreid.config import CfgNode
from fastreid.utils import comm
from torch import nn
from tqdm import tqdm

from nplp.data.datasets import Item
from nplp.data.loaders import build_group_loader
from nplp.distributed.collectives import all_shares
from nplp.errors import UserError
from nplp.memory import is_out_of_memory
from nplp.modeling import NPLP
from nplp.modeling.heads import EMBEDDING

__all__ = ["refresh_statistics"]

logger = logging.getLogger(__name__)


class _BatchNorm(Protocol):
    """What is used of a batch norm that keeps running statistics."""

    running_mean: torch.Tensor
    running_var: torch.Tensor
    num_batches_tracked: torch.Tensor | None
    num_features: int
    momentum: float | None

    def train(self) -> object: ...
    def register_forward_hook(self, hook: Any) -> Any: ...


def refresh_statistics(cfg: CfgNode, model: NPLP, items: list[Item]) -> None:
    """Estimate the running mean and variance of every batch norm anew, over ``items``.

    Nothing happens where ``NPLP.NORM.REFRESH`` is False, there is no image, or the model has no batch norm.
    All processes share the work, must make this call, and end with the same numbers.

    Time: one forward pass over the images, as long as extracting their features. Memory: the forward pass of
    ``NPLP.NORM.BATCH`` images, and three float64 numbers for each channel of a batch norm.

    Args:
        cfg: the configuration; ``NPLP.NORM`` is read.
        model: without a wrapper; its weights, modes and counters stay as they are.
        items: of the target's training set; identities are not looked at.

    Raises:
        UserError: if a group does not fit into memory, or there is a single image.
    """
    if not cfg.NPLP.NORM.REFRESH or not items:
        return
    norms = _batch_norms(model)
    if not norms:
        return
    if len(items) < 2:
        raise UserError("NPLP.NORM.REFRESH needs at least 2 images of the target, got 1: set it to False")
    begin = time.monotonic()
    groups = _groups(len(items), cfg.NPLP.NORM.IMAGES, cfg.NPLP.NORM.BATCH, cfg.SEED)
    pooled = _run(cfg, model, norms, items, groups)
    pooled.write(norms)
    logger.info(
        "  %d batch norms: statistics of %d images in %.1f s",
        len(norms),
        sum(map(len, groups)),
        time.monotonic() - begin,
    )


def _batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """Return the batch norms that keep running statistics."""
    kinds = nn.modules.batchnorm._BatchNorm
    return [
        cast(_BatchNorm, module)
        for module in model.modules()
        if isinstance(module, kinds) and module.track_running_stats
    ]


def _groups(images: int, most: int, size: int, seed: int) -> list[np.ndarray]:
    """Return the numbers of the images of each group: groups of equal sizes, or one image apart.

    Args:
        images: N.
        most: how many of them take part; 0: all.
        size: of the largest group.
        seed: of the order.
    """
    order = np.random.default_rng(seed).permutation(images)[: most or images]
    return np.array_split(order, -(-len(order) // size))


class _Pooled:
    """Number, mean and sum of squared deviations of the values of each channel, of all batch norms together.

    Groups are merged by Chan, Golub and LeVeque's update, in float64.
    """

    def __init__(self, norms: list[_BatchNorm]) -> None:
        self._widths = [norm.num_features for norm in norms]
        device = norms[0].running_mean.device
        # count, mean, squares: [3, S] for S channels of all layers.
        self._sums = torch.zeros(3, sum(self._widths), dtype=torch.float64, device=device)
        self._before = [(norm.running_mean.clone(), norm.running_var.clone()) for norm in norms]
        self._parts = self._sums.split(self._widths, dim=1)

    def add(self, layer: int, count: int, mean: torch.Tensor, variance: torch.Tensor) -> None:
        """Take a group's ``count`` values a channel, their mean [C] and their unbiased variance [C]."""
        more = torch.stack([torch.full_like(mean, count), mean, variance * (count - 1)]).double()
        self._parts[layer].copy_(_merged(self._parts[layer], more))

    def share(self) -> None:
        """Merge what all processes have, in the order of their numbers."""
        shares = all_shares(self._sums)
        merged = shares[0]
        for more in shares[1:]:
            merged = _merged(merged, more)
        self._sums.copy_(merged)

    def write(self, norms: list[_BatchNorm]) -> None:
        """Give each batch norm its mean and unbiased variance.

        One that no value came to keeps what it has: no feature depends on it.
        """
        for norm, (count, mean, squares), before in zip(norms, self._parts, self._before, strict=True):
            seen = count > 0
            norm.running_mean.copy_(torch.where(seen, mean, before[0]))
            norm.running_var.copy_(torch.where(seen, squares / (count - 1).clamp_min(1), before[1]))


def _merged(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return count, mean and sum of squared deviations [3, C] of two lots of values together."""
    count = one[0] + other[0]
    share = other[0] / count.clamp_min(1)
    step = other[1] - one[1]
    return torch.stack([count, one[1] + step * share, one[2] + other[2] + step.square() * one[0] * share])


@torch.no_grad()
def _run(
    cfg: CfgNode, model: NPLP, norms: list[_BatchNorm], items: list[Item], groups: list[np.ndarray]
) -> _Pooled:
    """Run this process's groups through the model; return the statistics of all groups."""
    pooled = _Pooled(norms)
    own = groups[comm.get_rank() :: comm.get_world_size()]
    loader = build_group_loader(cfg, items, own)
    bar = tqdm(
        loader,
        desc="Statistics of batch norms",
        unit="batch",
        leave=False,
        disable=None if comm.is_main_process() else True,
    )
    try:
        with _observed(model, norms, pooled):
            for batch in bar:
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
