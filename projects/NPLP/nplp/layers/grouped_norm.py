"""Batch normalisation over groups of a batch: consecutive images that share their statistics.

Shapes: B images in the batch, C channels, G groups.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["GroupedBatchNorm", "GroupedBatchNorm1d", "GroupedBatchNorm2d", "NormGroups", "group_batch_norms"]


class NormGroups:
    """What the batch norms of one model normalise by, besides what is theirs.

    Attributes:
        chunk: images of each group in training, M; 0 takes the batch as one group.
        whole: takes every training batch as one group, whatever the others say.
        given: sizes of the groups of the training batch at hand, in its order, in place of chunks.
        statistics: in evaluation, mean and variance [B, S] of each image, of the S channels of all layers, in
            place of the running ones.

    Args:
        chunk: M.

    Raises:
        ValueError: if M is negative or 1, which has no variance.
    """

    def __init__(self, chunk: int = 0) -> None:
        if chunk < 0 or chunk == 1:
            raise ValueError(f"chunk must be 0 or at least 2, got {chunk}")
        self.chunk = chunk
        self.whole = False
        self.given: list[int] | None = None
        self.statistics: tuple[torch.Tensor, torch.Tensor] | None = None

    def sizes(self, images: int) -> list[int]:
        """Return how many images each group has, in the order of the batch.

        Raises:
            ValueError: if a batch of ``images`` is no multiple of the chunk.
        """
        if self.whole:
            return [images]
        if self.given is not None:
            return self.given
        if not self.chunk:
            return [images]
        if images % self.chunk:
            raise ValueError(f"a batch of {images} images cannot be normalised in chunks of {self.chunk}")
        return [self.chunk] * (images // self.chunk)


class GroupedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """A batch norm that normalises each group of a training batch by the group's own mean and variance.

    Running statistics move once a step, by ``momentum``, towards the mean over the groups of their means and
    of their (unbiased) variances: what each process does with its share and the trainer then does over the
    processes. So groups of the same images give the same statistics in any number of processes with equal
    shares. In evaluation it is torch's, unless each image has statistics of its own.

    Attributes:
        groups: shared by the model's; in a tuple, as a module would take it for a part of itself otherwise.
        channels: which of the S channels of all layers are this one's.
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor
    groups: tuple[NormGroups, ...] = ()
    channels = slice(0, 0)

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002  torch's name
        """Return ``input`` [B, C] or [B, C, H, W] normalised.

        Raises:
            ValueError: in training, if the batch does not divide into groups, or a group has one value.
        """
        (groups,) = self.groups
        if not self.training:
            return self._by_image(input, *groups.statistics) if groups.statistics else super().forward(input)
        sizes = groups.sizes(len(input))
        if len(sizes) == 1:
            return super().forward(input)
        self._check_input_dim(input)
        normalised, statistics = [], []
        for group in input.split(sizes):
            mean, variance = torch.zeros_like(self.running_mean), torch.ones_like(self.running_var)
            # A momentum of 1 leaves the group's own statistics in the buffers.
            normalised.append(
                F.batch_norm(group, mean, variance, self.weight, self.bias, True, 1.0, self.eps)
            )
            statistics.append(torch.stack([mean, variance]))
        self._move_running(torch.stack(statistics).mean(dim=0))
        return torch.cat(normalised)

    def _by_image(self, input: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:  # noqa: A002
        """Return ``input`` normalised by each image's own statistics [B, S]."""
        scale = torch.rsqrt(variance[:, self.channels] + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        shift = -mean[:, self.channels] * scale
        if self.bias is not None:
            shift = shift + self.bias
        if input.dim() == 4:
            scale, shift = scale[:, :, None, None], shift[:, :, None, None]
        return torch.addcmul(shift, input, scale)

    @torch.no_grad()
    def _move_running(self, statistics: torch.Tensor) -> None:
        """Move the running mean and variance towards ``statistics`` [2, C], as torch's batch norm does."""
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        # Without a momentum torch keeps the mean over all batches.
        rate = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(statistics[0], rate)
        self.running_var.lerp_(statistics[1], rate)


class GroupedBatchNorm1d(GroupedBatchNorm, nn.BatchNorm1d):
    """``nn.BatchNorm1d`` over groups of the batch."""


class GroupedBatchNorm2d(GroupedBatchNorm, nn.BatchNorm2d):
    """``nn.BatchNorm2d`` over groups of the batch."""


def group_batch_norms(model: nn.Module, groups: NormGroups) -> list[GroupedBatchNorm]:
    """Put a grouped batch norm in the place of every ``nn.BatchNorm1d`` and ``2d`` of ``model``.

    Names, weights and buffers stay what they were, the very tensors: checkpoints of models with and without
    groups fit each other.

    Args:
        model: changed in place; a batch norm itself cannot be.
        groups: shared by all of them.

    Returns:
        What is there now, in the order of the model; their ``channels`` are one after the other.

    Raises:
        ValueError: if a batch norm is synchronised over processes, or keeps no running statistics.
    """
    made: list[GroupedBatchNorm] = []
    first = 0
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if isinstance(module, nn.SyncBatchNorm):
            raise ValueError(f"{name} is a synchronised batch norm, whose groups are the whole batch")
        if not isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            continue
        if not module.track_running_stats:
            raise ValueError(f"{name} keeps no running statistics")
        parent, _, own = name.rpartition(".")
        norm = _grouped(module, groups)
        norm.channels = slice(first, first + norm.num_features)
        first = norm.channels.stop
        setattr(model.get_submodule(parent), own, norm)
        made.append(norm)
    return made


def _grouped(module: nn.BatchNorm1d | nn.BatchNorm2d, groups: NormGroups) -> GroupedBatchNorm:
    """Return a grouped batch norm with the tensors and the settings of ``module``."""
    kind: Any = GroupedBatchNorm2d if isinstance(module, nn.BatchNorm2d) else GroupedBatchNorm1d
    # A new module without a constructor call, which would draw no random number but make new tensors.
    made = kind.__new__(kind)
    made.__dict__.update(module.__dict__)
    made.groups = (groups,)
    return made
