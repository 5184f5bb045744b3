"""Two gloo processes train the model without a search for unused parameters and stay equal to the bit."""

from pathlib import Path

import torch

from ranks import run_ranks

SCRIPT = Path(__file__).with_name("model_process.py")


def test_weights_and_table_stay_equal(tmp_path: Path) -> None:
    """A parameter without a gradient would stop the second step of the distributed model."""
    first, second = run_ranks(SCRIPT, tmp_path)
    assert len(first) == 3
    assert "table" in first[2]
    for mine, other in zip(first, second, strict=True):
        assert all(torch.equal(mine[name], other[name]) for name in mine)
