"""A run of the cluster memory that is killed within an iteration and resumed ends with the same bits.

With camera proxies and weighed clusters too.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from resumed_runs import killing
from tiny import NARROW_BACKBONE, tiny_options

ROOT = Path(__file__).parents[2]
PAIRS = {**NARROW_BACKBONE, "NPLP.EPOCHS_PER_ITERATION": 2, "NPLP.STEPS_PER_EPOCH": 4, "NPLP.ITERATIONS": 2}
PAIRS["NPLP.MEMORY.EPSILON"] = 0.35  # the tiny source model tells people apart this far
OPTIONS = [str(word) for pair in PAIRS.items() for word in pair]
ADDITIONS = [
    *("MODEL.LOSSES.NAME", "('ClusterMemoryLoss','CameraProxyLoss')"),
    *("NPLP.CAMERA_ENTROPY_WEIGHT", "True"),
]
CONFIG = ["--config-file", "configs/methods/memory_quickstart.yml"]


def finish(synthetic_root, output, program=(sys.executable, "tools/train_net.py"), options=()):
    return subprocess.run(
        [*program, *CONFIG, *tiny_options(synthetic_root, output), *OPTIONS, *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )


@pytest.mark.parametrize("options", [(), ADDITIONS], ids=["memory", "with camera proxies and weights"])
def test_a_killed_run_ends_as_one_that_was_not(synthetic_root, tmp_path, options):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finished = finish(synthetic_root, whole, options=options)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    # The last checkpoint is then that of the third epoch, the first of two in its iteration.
    end = ("nplp.engine.adaptation:AdaptationTrainer._end_epoch", 4, "before")
    resumed = finish(synthetic_root, killed, program=killing(end), options=options)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    ours, theirs = (torch.load(path / "model_final.pth", weights_only=True) for path in (killed, whole))
    assert all(torch.equal(ours["model"][key], theirs["model"][key]) for key in theirs["model"])
    lines = [(path / "pseudo_labels.jsonl").read_text() for path in (killed, whole)]
    assert lines[0] == lines[1]
    results = [json.loads((path / "results.json").read_text()) for path in (killed, whole)]
    assert results[0]["final"] == results[1]["final"]
