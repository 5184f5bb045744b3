"""Labels features as one of several processes, or with all threads of one, and saves what came of it.

Usage: share_process.py RANK WORLD_SIZE FOLDER; FOLDER/cases.pt holds the cases. Run by a test.
"""

import sys
import warnings
from pathlib import Path

import torch
import torch.distributed as dist

from nplp.clustering import estimate_pseudo_labels
from nplp.clustering.sweep import shared_among
from nplp.distributed.shares import RankShares


def main(rank: int, size: int, folder: Path) -> None:
    """Run each case and save all that it gave."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    meeting = (folder / "meeting").as_uri()
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size)
    shares = RankShares(dist.group.WORLD)
    cases = torch.load(folder / "cases.pt", weights_only=False)
    found = {}
    for name, (features, cameras, options) in cases.items():
        with shared_among(shares):
            found[name] = vars(estimate_pseudo_labels(features, cameras, **options))
    torch.save(found, folder / f"{rank}.pt")
    dist.barrier()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
