"""One process of the distributed test: trains on its part of each batch and saves its proxies.

Usage: camera_proxy_process.py RANK WORLD_SIZE FOLDER
"""

import sys
from pathlib import Path

import torch
from torch import distributed

from nplp.losses import CameraProxyLoss
from ranks import leave

CAMERAS, COLUMNS, BATCH, STEPS = 3, 7, 8, 3


def whole() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The features [36, 7], labels and cameras [36] that the table begins with."""
    features = torch.randn(36, COLUMNS, generator=torch.Generator().manual_seed(7))
    return features, torch.arange(36) // 9, torch.arange(36) % CAMERAS


def global_batch(step: int) -> tuple[torch.Tensor, ...]:
    """The features [8, 7], labels, cameras and weights [8] of all processes together."""
    generator = torch.Generator().manual_seed(100 + step)
    chosen = torch.randint(36, (BATCH,), generator=generator)
    _, labels, cameras = whole()
    features = torch.randn(BATCH, COLUMNS, generator=generator)
    return features, labels[chosen], cameras[chosen], torch.rand(BATCH, generator=generator)


def build() -> CameraProxyLoss:
    """Return the loss as every process begins; each camera's images are spread over the processes."""
    loss = CameraProxyLoss(negatives=4, intra_weight=1.0, reduction="cameras", online_weight=1.0)
    loss.begin(*whole())
    return loss


def main(rank: int, world_size: int, folder: Path) -> None:
    """Train as process ``rank`` and write ``folder``/RANK.pt."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world_size
    )
    loss = build()
    local = BATCH // world_size
    part = slice(rank * local, (rank + 1) * local)
    losses, gradients = [], []
    for step in range(STEPS):
        features, *others = (value[part] for value in global_batch(step))
        own = features.clone().requires_grad_()
        value = loss(own, *others)
        value.backward()
        losses.append(value.detach())
        gradients.append(own.grad)
    torch.save(
        {"table": loss.table, "losses": torch.stack(losses), "gradients": torch.stack(gradients)},
        folder / f"{rank}.pt",
    )
    leave()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
