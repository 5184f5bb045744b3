"""The batch of all processes: each one's rows, gathered in the order of the processes' numbers.

Shapes: b rows in each of W processes, B = W b together.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import distributed
from torch.autograd.function import once_differentiable

__all__ = ["gather_for_losses", "gather_rows", "whole_batch"]

_is_whole: ContextVar[bool] = ContextVar("batch_is_whole", default=False)


@contextmanager
def whole_batch() -> Iterator[None]:
    """Tell losses within the block that what they are given is the batch of all processes already."""
    token = _is_whole.set(True)
    try:
        yield
    finally:
        _is_whole.reset(token)


def gather_rows(tensor: torch.Tensor) -> torch.Tensor:
    """Return the rows [B, ...] of all processes, without a gradient; every process must call this.

    Args:
        tensor: [b, ...], of the same shape in every process, on the device that they communicate from.

    Returns:
        ``tensor`` itself in a single process, and within :func:`whole_batch`.
    """
    return tensor if _is_whole.get() or _processes() == 1 else _gathered(tensor)


def gather_for_losses(tensor: torch.Tensor) -> torch.Tensor:
    """Return the rows [B, ...] of all processes, for a loss that every process takes of all of them.

    The gradient of the own rows is W times that of the loss, that of the others' rows is left to them. The
    mean over the processes, which ``DistributedDataParallel`` takes of the weights' gradients, then is the
    gradient of the loss, as one process has it. It needs no exchange, as each process has the whole loss.
    Where the loss has weights of its own each process has their whole gradient, and the mean is the same.

    Args:
        tensor: as of :func:`gather_rows`.

    Returns:
        ``tensor`` itself in a single process.
    """
    if _processes() == 1:
        return tensor
    return _GatheredForLosses.apply(tensor) if tensor.requires_grad else _gathered(tensor)


class _GatheredForLosses(torch.autograd.Function):
    """The rows of all processes, of which the own ones have a gradient."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        ctx.rows = len(tensor)
        return _gathered(tensor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> torch.Tensor:
        own = grad_output.split(ctx.rows)[distributed.get_rank()]
        return distributed.get_world_size() * own


def _processes() -> int:
    there = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if there else 1


def _gathered(tensor: torch.Tensor) -> torch.Tensor:
    parts = [torch.empty_like(tensor) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, tensor.detach().contiguous())
    return torch.cat(parts)
