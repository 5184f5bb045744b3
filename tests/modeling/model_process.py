"""One process of the distributed tests: trains the model in DistributedDataParallel as the toolbox builds it.

Usage: model_process.py RANK WORLD_SIZE FOLDER
"""

import sys
from pathlib import Path

import torch
from torch import distributed, nn

import nplp  # noqa: F401  first: it bridges the toolbox
from nplp.modeling import NPLP, PAPHead
from ranks import leave

LOSS_SETS = (("TripletLoss",), ("CrossEntropyLoss", "TripletLoss"), ("TripletLoss", "CenterContrastiveLoss"))
STEPS = 3
OF_WHOLE_BATCHES = (
    "CrossEntropyLoss",
    "TripletLoss",
    "CenterContrastiveLoss",
    "ClusterMemoryLoss",
    "CameraProxyLoss",
    "PairTripletLoss",
    "SoftmaxTripletLoss",
)
"""All that need no preparation by a method of theirs."""
BATCH = 8


def train(losses: tuple[str, ...], rank: int) -> dict[str, torch.Tensor]:
    """Train three steps on this process's images; return the weights and the lookup table."""
    torch.manual_seed(0)
    model = NPLP(
        backbone=nn.Sequential(nn.Conv2d(3, 5, 4, stride=4), nn.ReLU()),
        heads=PAPHead(feat_dim=5, embedding_dim=4, num_classes=3, loss_names=losses),
        loss_names=losses,
        pixel_mean=[128.0] * 3,
        pixel_std=[64.0] * 3,
    )
    parallel = nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
    if "CenterContrastiveLoss" in model.criteria:
        model.criteria["CenterContrastiveLoss"].reset(torch.rand(3, 4))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    generator = torch.Generator().manual_seed(rank)
    for _ in range(STEPS):
        images = torch.rand(4, 3, 16, 8, generator=generator) * 255
        targets = torch.randint(3, (4,), generator=generator)
        optimizer.zero_grad()
        sum(parallel({"images": images, "targets": targets}).values()).backward()
        optimizer.step()
    result = {name: parameter.detach() for name, parameter in model.named_parameters()}
    if "CenterContrastiveLoss" in model.criteria:
        result["table"] = model.criteria["CenterContrastiveLoss"].table
    return result


def train_on_whole_batches(rank: int, world_size: int) -> dict[str, torch.Tensor]:
    """Train three steps on a process's shares of the same batches, in float64; return all that moves."""
    torch.manual_seed(0)
    model = NPLP(
        backbone=nn.Sequential(nn.Conv2d(3, 5, 4, stride=4), nn.BatchNorm2d(5), nn.ReLU()),
        heads=PAPHead(feat_dim=5, embedding_dim=4, num_classes=3, loss_names=OF_WHOLE_BATCHES),
        loss_names=OF_WHOLE_BATCHES,
        pixel_mean=[128.0] * 3,
        pixel_std=[64.0] * 3,
        norm_chunk=4,
        whole_batches=True,
    ).double()
    generator = torch.Generator().manual_seed(0)
    labels, cameras = torch.arange(6) % 3, torch.arange(6) // 3
    for name, criterion in model.criteria.items():
        if name == "CameraProxyLoss":
            criterion.begin(torch.randn(6, 4, generator=generator), labels, cameras)
        elif hasattr(criterion, "reset"):
            criterion.reset(torch.randn(3, 4, generator=generator))
    alone = world_size == 1
    trained = model if alone else nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    share = BATCH // world_size
    result = {}
    for step in range(STEPS):
        batch = {
            "images": torch.rand(BATCH, 3, 16, 8, generator=generator) * 255,
            "targets": torch.randint(3, (BATCH,), generator=generator),
            "camids": torch.randint(2, (BATCH,), generator=generator),
            "weights": torch.rand(BATCH, generator=generator),
        }
        optimizer.zero_grad()
        losses = trained({key: value.split(share)[rank] for key, value in batch.items()})
        sum(losses.values()).backward()
        optimizer.step()
        result.update({f"{name} {step}": loss.detach() for name, loss in losses.items()})
    tables = {
        name: criterion.table for name, criterion in model.criteria.items() if hasattr(criterion, "table")
    }
    return {**result, **tables, **{name: value.detach() for name, value in model.named_parameters()}}


def main(rank: int, world_size: int, folder: Path) -> None:
    """Train every set of losses, then whole batches, as process ``rank`` and write ``folder``/RANK.pt."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world_size
    )
    results = [train(losses, rank) for losses in LOSS_SETS]
    torch.save([*results, train_on_whole_batches(rank, world_size)], folder / f"{rank}.pt")
    leave()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
