"""Runs of the training tool in processes of their own, and what makes two of them equal."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tiny import tiny_options

ROOT = Path(__file__).parents[1]
CONFIG = ["--config-file", "configs/NPLP/quickstart.yml"]
PAIRS = ["NPLP.EPOCHS_PER_ITERATION", "2", "NPLP.EMA", "True", "NPLP.STEPS_PER_EPOCH", "6"]


def start(
    synthetic_root,
    output,
    *arguments,
    program=(sys.executable, "tools/train_net.py"),
    options=(),
    preexec_fn=None,
    threads=1,
):
    """Start a run; ``program`` may be a driver that takes the tool's arguments."""
    options = [*tiny_options(synthetic_root, output), *PAIRS, *options]
    return subprocess.Popen(
        [*program, *CONFIG, *arguments, *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=preexec_fn,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )


def killing(*kills):
    """Return a program for :func:`start`: a run killed at each of these calls in turn, and then resumed."""
    return (sys.executable, str(ROOT / "tests" / "engine" / "killed_at.py"), json.dumps(kills))


def wait_for(text, process):
    """Read what a process shows until a line has `text`."""
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"the run ended without showing {text!r}")


def assert_same_results(output, reference):
    """Compare weights, buffers, averages, labels and metrics to the bit."""
    for name in ("model_final", "model_final_ema"):
        ours, theirs = (torch.load(path / f"{name}.pth", weights_only=True) for path in (output, reference))
        assert all(torch.equal(ours["model"][key], theirs["model"][key]) for key in theirs["model"])
    lines = [(path / "pseudo_labels.jsonl").read_text() for path in (output, reference)]
    assert lines[0] == lines[1]
    results = [json.loads((path / "results.json").read_text()) for path in (output, reference)]
    for stage in ("direct_transfer", "startup", "final", "final_ema"):
        assert results[0][stage] == results[1][stage]


def assert_same_end(output, reference):
    """Compare all results to the bit, and check that no line was written twice."""
    assert_same_results(output, reference)
    for folder in (output, output / "source"):
        assert_one_history(folder)


def assert_one_history(folder):
    """Check that no step's metrics were written twice, for readers of lines and for TensorBoard."""
    lines = [json.loads(line)["iteration"] for line in (folder / "metrics.json").open()]
    shown = [event.step for event in EventAccumulator(str(folder)).Reload().Scalars("total_loss")]
    for steps in (lines, shown):
        assert steps
        assert steps == sorted(set(steps))
