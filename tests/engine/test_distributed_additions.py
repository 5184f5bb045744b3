"""Two gloo processes with camera proxies, weighed clusters and a rule that stops: both hold the same."""

import subprocess
import sys
from pathlib import Path

import torch

from tiny import tiny_options

SCRIPT = Path(__file__).with_name("two_processes.py")
ADDITIONS = {
    "MODEL.LOSSES.NAME": "('TripletLoss','CenterContrastiveLoss','CameraProxyLoss')",
    "NPLP.CAMERA_ENTROPY_WEIGHT": "True",
    "NPLP.EMA": "True",
    "NPLP.STOP.AGREEMENT": "0.05",
    "NPLP.STARTUP_ITERATIONS": "1",
}


def test_all_ranks_hold_the_same_tables_and_stop_together(source_weights, synthetic_root, tmp_path):
    options = [*tiny_options(synthetic_root, tmp_path / "run"), "NPLP.SOURCE.WEIGHTS", str(source_weights)]
    options += [word for pair in ADDITIONS.items() for word in pair]
    command = [sys.executable, str(SCRIPT), "2", str(tmp_path), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    first, second = (torch.load(tmp_path / f"rank{rank}.pth", weights_only=True) for rank in range(2))
    for key in ("labels", "tables"):
        # Two of the three iterations that were planned.
        assert len(first[key]) == len(second[key]) == 2
        assert all(torch.equal(a, b) for a, b in zip(first[key], second[key], strict=True))
    # More rows than clusters: the proxies are among them.
    assert len(first["tables"][0]) > int(first["labels"][0].max()) + 1
    assert all(torch.equal(first["weights"][key], second["weights"][key]) for key in first["weights"])
    assert set(first["results"]) == {"direct_transfer", "startup", "final", "final_ema"}
