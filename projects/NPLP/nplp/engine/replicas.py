"""One model in several processes: what training does to each process's own copy is made equal again.

`DistributedDataParallel` makes gradients equal, and with them weights and the optimiser's state. The running
mean and variance of a batch norm stay each process's own, as they come from its share of the batch. They are
averaged after every step:

- The average has seen all images, the main process's only its share: it is the less noisy estimate. Each
  process normalises by the variance within its share, and the mean of those is what training normalised by.
- After every step, not only before the model is used: an average of weights over time then sees equal copies,
  and a run that is saved and resumed between two steps ends with the bits of one that was not.

- Groups of the same images give the same average in any number of processes: see `GroupedBatchNorm`.

Where ``MODEL.BACKBONE.NORM`` and ``MODEL.HEADS.NORM`` are ``syncBN``, the statistics are equal anyway.
"""

import logging

import torch
from fastreid.config import CfgNode
from fastreid.utils import comm
from torch import nn

from nplp.distributed.collectives import all_shares, take_from_main_process
from nplp.errors import UserError
from nplp.modeling.norms import check_chunks

__all__ = ["average_statistics", "check_batches", "check_norms", "equalise_buffers"]

logger = logging.getLogger(__name__)

STATISTICS = ("running_mean", "running_var")


@torch.no_grad()
def average_statistics(model: nn.Module) -> None:
    """Replace every running mean and variance by its mean over the processes; all of them must call this.

    In one process nothing happens. Statistics that are equal already keep their bits. Memory and traffic: the
    statistics of the model once for each process.

    Args:
        model: of the same architecture in every process, on the device that they communicate from.
    """
    if comm.get_world_size() == 1:
        return
    buffers = [buffer for name, buffer in _named_buffers(model) if name in STATISTICS]
    if not buffers:
        return
    own = torch.cat([buffer.reshape(-1).double() for buffer in buffers])
    shares = all_shares(own)
    # By the differences: the mean of n equal values, as sum and quotient, may have other bits than they.
    mean = shares[0] + (torch.stack(shares) - shares[0]).mean(dim=0)
    for buffer, part in zip(buffers, mean.split([buffer.numel() for buffer in buffers]), strict=True):
        buffer.copy_(part.view_as(buffer))


@torch.no_grad()
def equalise_buffers(model: nn.Module) -> None:
    """Make all buffers equal in every process, which all must call: before the model is used or saved.

    Running statistics are averaged, all others, such as counters, take the main process's values. In one
    process nothing happens. Traffic: all buffers once, the statistics once for each process.

    Args:
        model: of the same architecture in every process, on the device that they communicate from.
    """
    if comm.get_world_size() == 1:
        return
    average_statistics(model)
    buffers = [buffer for name, buffer in _named_buffers(model) if name not in STATISTICS]
    if not buffers:
        return
    # As bytes, since not every backend sends every type.
    parts = [buffer.reshape(-1).view(torch.uint8) for buffer in buffers]
    sent = torch.cat(parts)
    take_from_main_process(sent)
    for buffer, part in zip(buffers, sent.split([part.numel() for part in parts]), strict=True):
        # A copy lies where its type may lie.
        buffer.copy_(part.clone().view(buffer.dtype).view_as(buffer))


def check_norms(model: nn.Module, device: torch.device) -> None:
    """Refuse what cannot be trained in several processes.

    Raises:
        UserError: if the model has synchronised batch norms, which torch has for GPUs only, on the CPU.
    """
    if device.type != "cuda" and any(isinstance(module, nn.SyncBatchNorm) for module in model.modules()):
        raise UserError(
            "MODEL.BACKBONE.NORM and MODEL.HEADS.NORM 'syncBN' need GPUs in several processes, got "
            f"MODEL.DEVICE {str(device)!r}: set BN, whose running statistics are averaged over the processes"
        )


def check_batches(cfg: CfgNode, model: nn.Module, key: str) -> None:
    """Check that batches divide as they are to be, and that NPLP.SAME_AT_ANY_WORLD_SIZE can hold.

    It is said what it does not hold for: what a model draws in training, such as dropout, is of the process.

    Args:
        cfg: of the stage.
        model: that is trained.
        key: the name under which a user sets the stage's MODEL.NORM_CHUNK.

    Raises:
        UserError: if a process's share of a batch does not divide into parts and chunks, or without chunks
            where the result must not depend on the share.
    """
    check_chunks(cfg, comm.get_world_size())
    if not cfg.NPLP.SAME_AT_ANY_WORLD_SIZE:
        return
    if not cfg.MODEL.NORM_CHUNK:
        raise UserError(
            f"{key} must be above 0 with NPLP.SAME_AT_ANY_WORLD_SIZE, at most what each process takes of a "
            "batch, got 0"
        )
    drawing = [name for name, module in model.named_modules() if _draws(module)]
    if drawing:
        logger.warning(
            "NPLP.SAME_AT_ANY_WORLD_SIZE: %s and %d more of the model's layers draw random numbers in "
            "training, other ones in each process: results are the same on average alone",
            *(drawing[0], len(drawing) - 1),
        )


def _draws(module: nn.Module) -> bool:
    """Tell whether a layer draws in training: a dropout of values, or timm's of paths."""
    rate = getattr(module, "p" if isinstance(module, nn.modules.dropout._DropoutNd) else "drop_prob", 0)
    return isinstance(rate, float | int) and rate > 0


def _named_buffers(model: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Return the buffers, each with its name within its module, in the same order in every process."""
    return [(name.rpartition(".")[2], buffer) for name, buffer in model.named_buffers()]
