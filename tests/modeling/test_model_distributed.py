"""Two gloo processes train the model without a search for unused parameters and stay equal to the bit."""

import os
import subprocess
import sys
from pathlib import Path

import torch

SCRIPT = Path(__file__).with_name("model_process.py")
WORLD_SIZE = 2


def test_weights_and_table_stay_equal(tmp_path: Path) -> None:
    """A parameter without a gradient would stop the second step of the distributed model."""
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), str(WORLD_SIZE), str(tmp_path)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(WORLD_SIZE)
    ]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(WORLD_SIZE))
    assert len(first) == 3
    assert "table" in first[2]
    for mine, other in zip(first, second, strict=True):
        assert all(torch.equal(mine[name], other[name]) for name in mine)
