"""Runs a script once for each rank of a gloo group, for the tests of distributed training."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

WORLD_SIZE = 2


def run_ranks(script: Path, folder: Path, weights_only: bool = True) -> list[Any]:
    """Run ``script RANK WORLD_SIZE FOLDER`` for each rank and return what each saved as ``RANK.pt``.

    With ``weights_only`` false that may be any object.
    """
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), str(WORLD_SIZE), str(folder)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(WORLD_SIZE)
    ]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=280)
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()
    return [torch.load(folder / f"{rank}.pt", weights_only=weights_only) for rank in range(WORLD_SIZE)]
