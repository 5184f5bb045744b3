"""Labels features as one of several processes, and saves what came of it; then errs. Run by a test.

Usage: share_process.py RANK WORLD_SIZE FOLDER; FOLDER/cases.pt holds the cases.
"""

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from nplp.clustering import estimate_pseudo_labels
from nplp.clustering.sweep import shared_among
from nplp.distributed.children import end_child
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
    found["arrays"] = exchanged(shares)
    dist.barrier()
    try:
        (shares.summed if rank else shares.largest)(np.zeros(3))
    except RuntimeError as error:
        found["error"] = str(error)
    torch.save(found, folder / f"{rank}.pt")


def exchanged(shares: RankShares) -> dict[str, Any]:
    """Return what comes of each exchange."""
    own = np.arange(3 * shares.number, dtype=np.int32).reshape(-1, 3)
    rows = 10 * shares.number + np.arange(5)[:, None] * [1.0, 0.5]
    return {
        "agreed": shares.agreed(f"worker {shares.number}"),
        "gathered": shares.gathered(own),
        "nothing": shares.gathered(np.empty((0, 2))),
        "swapped": shares.swapped(rows),
        "summed": shares.summed(np.array([2**60 + shares.number, -1])),
        "largest": shares.largest(np.array([shares.number, -np.inf])),
    }


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
    # Not by `ranks.leave`: after an exchange that failed the group is not used again.
    end_child()
