"""One process of the tests of batch norms in several: statistics of a model, and gradients over chunks.

Usage: norm_process.py RANK WORLD_SIZE FOLDER
"""

import sys
from pathlib import Path

import torch
from torch import distributed

from norm_cases import refreshed, trained
from ranks import leave


def main(rank: int, world_size: int, folder: Path) -> None:
    """Run both as process ``rank`` and write ``folder``/RANK.pt."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world_size
    )
    torch.save([refreshed(folder / str(rank)), trained(rank, world_size)], folder / f"{rank}.pt")
    leave()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
