"""Gives a model other buffers in each process, makes them equal and saves them; run by a test.

Usage: replica_process.py PROCESSES FOLDER
"""

import sys
from pathlib import Path

import torch
from torch import nn

from nplp.distributed.processes import launch
from nplp.engine.replicas import average_statistics, check_norms, equalise_buffers
from nplp.errors import UserError


def build(rank: int) -> nn.Module:
    """Return a model whose first layer differs between processes and whose second does not."""
    model = nn.Sequential(nn.BatchNorm2d(4), nn.BatchNorm2d(4))
    torch.manual_seed(0)
    for layer in model:
        layer.running_mean.copy_(torch.randn(4))
        layer.running_var.copy_(torch.rand(4) + 0.1)
    model[0].running_mean += rank
    model[0].running_var *= 1 + rank
    model[0].num_batches_tracked += 10 + rank
    model[0].register_buffer("other", torch.tensor([True, False, rank == 0]))
    model.register_buffer("whole", torch.full((3,), float(rank)).half(), persistent=False)
    return model


def main(folder: str) -> None:
    """Save the buffers before, after the statistics' averaging, and after all are equal."""
    from fastreid.utils import comm

    model = build(comm.get_rank())
    seen = [{name: value.clone() for name, value in model.named_buffers()}]
    for make_equal in (average_statistics, equalise_buffers, equalise_buffers):
        make_equal(model)
        seen.append({name: value.clone() for name, value in model.named_buffers()})
    torch.save(seen, Path(folder) / f"rank{comm.get_rank()}.pth")
    check_norms(model, torch.device("cpu"))
    check_norms(nn.Sequential(nn.SyncBatchNorm(4)), torch.device("cpu"))


if __name__ == "__main__":
    try:
        launch(main, int(sys.argv[1]), args=(sys.argv[2],), device="cpu")
    except UserError as error:
        sys.stdout.write(str(error))
