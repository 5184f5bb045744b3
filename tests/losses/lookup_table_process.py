"""One process of the distributed test: trains on its part of each batch and saves its lookup table.

Usage: lookup_table_process.py RANK WORLD_SIZE FOLDER
"""

import sys
from pathlib import Path

import torch
from torch import distributed

from nplp.losses import CenterContrastiveLoss
from ranks import leave

CLUSTERS, COLUMNS, BATCH, STEPS = 3, 7, 8, 3


def global_batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The features [8, 7] and labels [8] of all processes together."""
    generator = torch.Generator().manual_seed(100 + step)
    return torch.randn(BATCH, COLUMNS, generator=generator), torch.randint(
        CLUSTERS, (BATCH,), generator=generator
    )


def initial_centroids() -> torch.Tensor:
    """The centroids [3, 7] that every process starts from."""
    return torch.randn(CLUSTERS, COLUMNS, generator=torch.Generator().manual_seed(7))


def main(rank: int, world_size: int, folder: Path) -> None:
    """Train as process ``rank`` and write ``folder``/RANK.pt."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world_size
    )
    module = CenterContrastiveLoss()
    module.reset(initial_centroids())
    local = BATCH // world_size
    losses, gradients = [], []
    for step in range(STEPS):
        features, labels = global_batch(step)
        part = slice(rank * local, (rank + 1) * local)
        own = features[part].clone().requires_grad_()
        loss = module(own, labels[part])
        loss.backward()
        losses.append(loss.detach())
        gradients.append(own.grad)
    torch.save(
        {"table": module.table, "losses": torch.stack(losses), "gradients": torch.stack(gradients)},
        folder / f"{rank}.pt",
    )
    leave()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
