"""Two gloo processes on the CPU: every rank holds the same labels, table and weights; one process agrees."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tiny import tiny_options

SCRIPT = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def ranks(source_weights, synthetic_root, tmp_path_factory):
    """What each rank saved, by number of processes."""
    found = {}
    for processes in (1, 2):
        folder = tmp_path_factory.mktemp(f"processes{processes}")
        options = [*tiny_options(synthetic_root, folder / "run"), "NPLP.SOURCE.WEIGHTS", str(source_weights)]
        options += ["NPLP.EMA", "True"]
        command = [sys.executable, str(SCRIPT), str(processes), str(folder), *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        found[processes] = [
            torch.load(folder / f"rank{rank}.pth", weights_only=True) for rank in range(processes)
        ]
    return found


def test_all_ranks_hold_the_same_labels_tables_and_weights(ranks):
    first, second = ranks[2]
    for key in ("labels", "tables"):
        assert len(first[key]) == 3
        assert all(torch.equal(a, b) for a, b in zip(first[key], second[key], strict=True))
    assert all(torch.equal(first["weights"][key], second["weights"][key]) for key in first["weights"])


@pytest.mark.parametrize("what", ["buffers", "average", "optimizer"])
def test_all_ranks_hold_the_same_of_everything_else_that_training_changes(ranks, what):
    first, second = (rank[what] for rank in ranks[2])
    assert first.keys() == second.keys()
    assert first
    differing = [key for key in first if not torch.equal(first[key], second[key])]
    assert not differing


def test_the_main_process_alone_reports(ranks):
    first, second = ranks[2]
    assert set(first["results"]) == {"direct_transfer", "startup", "final", "final_ema"}
    assert second["results"] == {}


def test_before_any_step_two_processes_equal_one(ranks):
    (one,), (first, _) = ranks[1], ranks[2]
    assert torch.equal(one["labels"][0], first["labels"][0])
    assert first["results"]["direct_transfer"] == pytest.approx(one["results"]["direct_transfer"])


def test_after_training_two_processes_are_near_one(ranks):
    """Batch statistics are each rank's own, so the weights are near, not equal."""
    (one,), (first, _) = ranks[1], ranks[2]
    ours = torch.cat([value.flatten() for value in first["weights"].values()])
    theirs = torch.cat([value.flatten() for value in one["weights"].values()])
    cosine = torch.nn.functional.cosine_similarity(ours, theirs, dim=0)
    assert cosine > 0.9
    assert not torch.equal(ours, theirs)
