"""Extracts features of a few images as one of several processes and saves them; run by a test.

Usage: extraction_process.py RANK WORLD_SIZE FOLDER; FOLDER holds the images.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from nplp.data.datasets import Item
from nplp.data.extraction import extract_features
from ranks import leave
from tiny import make_tiny_cfg

COUNTS = (1, 2, 5, 7)


class Colours(nn.Module):
    """Gives the mean colours of an image and of its upper half, which tell the images apart."""

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return [B, 6]."""
        images = batch["images"]
        return torch.cat([images.mean(dim=(2, 3)), images[:, :, : images.shape[2] // 2].mean(dim=(2, 3))], 1)


def extracted(folder: Path, everywhere: bool) -> dict[int, torch.Tensor]:
    """Return the features of the first images, by their number."""
    cfg = make_tiny_cfg(folder / "none", folder / "run", "TEST.IMS_PER_BATCH", 4)
    items: list[Item] = [(str(path), "0", "0") for path in sorted(folder.glob("*.png"))]
    model = Colours()
    return {
        count: extract_features(cfg, model, items[:count], "Features", everywhere=everywhere)
        for count in COUNTS
    }


def main(rank: int, size: int, folder: Path) -> None:
    """Extract for the main process, and for all."""
    meeting = (folder / "meeting").as_uri()
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size)
    torch.save([extracted(folder, everywhere) for everywhere in (False, True)], folder / f"{rank}.pt")
    leave()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
