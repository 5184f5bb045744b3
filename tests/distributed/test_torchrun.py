"""Training under torchrun: a process that is killed ends all, and a restart goes on from the last state."""

import os
import subprocess
import sys
from pathlib import Path

from tiny import tiny_options

SCRIPT = Path(__file__).parent / "torchrun_process.py"
ROOT = Path(__file__).parents[2]


def test_a_killed_process_is_started_again_from_the_last_epoch(synthetic_root, tmp_path):
    options = ["NPLP.ITERATIONS", "0", "NPLP.SOURCE.MAX_EPOCH", "2", "DATASETS.TESTS", "()"]
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "1"),
        *("--standalone", str(SCRIPT), str(tmp_path), "--config-file", "configs/NPLP/quickstart.yml"),
        *tiny_options(synthetic_root, tmp_path / "run"),
        *options,
    ]
    done = subprocess.run(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Signal 9 (SIGKILL)" in done.stderr or "exitcode: -9" in done.stderr
    # By process, start and stage: the first step of the training.
    began = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.glob("?-?-0")}
    assert began == {"0-0-0": "0", "1-0-0": "0", "0-1-0": "6", "1-1-0": "6"}
    assert (tmp_path / "run" / "source" / "model_final.pth").exists()
