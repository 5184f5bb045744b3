"""A run that keeps its decoded crops ends on the weights of one that does not."""

import pytest
import torch

from nplp.config import default_config
from nplp.engine import pipeline
from tiny import make_tiny_cfg


@pytest.mark.parametrize("workers", [0, 1])
def test_the_weights_are_the_same_to_the_bit(synthetic_root, tmp_path, workers):
    found = []
    cases = [("kept", (64, 0)), ("file", (0, 64)), ("decoded", (0, 0))]
    for name, budgets in cases[:: 2 if workers else 1]:
        cfg = make_tiny_cfg(
            *(synthetic_root, tmp_path / name),
            *("NPLP.ITERATIONS", 1, "NPLP.STARTUP_ITERATIONS", 1, "NPLP.SOURCE.MAX_EPOCH", 1),
            *("DATALOADER.NUM_WORKERS", workers),
            *("DATALOADER.DECODED.MEMORY_MB", budgets[0], "DATALOADER.DECODED.DISK_MB", budgets[1]),
        )
        pipeline.run(cfg, default_config(), resume=False)
        found.append(torch.load(tmp_path / name / "model_final.pth")["model"])
    for others in found[1:]:
        assert all(torch.equal(value, others[name]) for name, value in found[0].items())
