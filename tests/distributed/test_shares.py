"""A pass over pairs that two processes share gives the labels of one, and nobody waits in vain."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nplp.clustering import estimate_pseudo_labels
from nplp.clustering.settings import DISTANCES
from ranks import run_ranks

FOLDER = Path(__file__).parent
CASES = [(distance, assessed) for distance in DISTANCES for assessed in (None, "euclidean")]


def drawn(count: int = 401) -> tuple[np.ndarray, np.ndarray]:
    """Return features [N, 96] of people of some 10 images, and their cameras [N]."""
    rng = np.random.default_rng(4)
    centres = rng.normal(size=(count // 10, 96))
    features = centres[rng.integers(len(centres), size=count)] + 0.5 * rng.normal(size=(count, 96))
    return features.astype(np.float32), rng.integers(5, size=count)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """What each of two processes made of each case."""
    folder = tmp_path_factory.mktemp("shares")
    features, cameras = drawn()
    cases = {
        (distance, assessed): (
            features,
            cameras,
            {"distance": distance, "assessment_distance": assessed, "alpha": 0.02, "noisy_fraction": 0.3},
        )
        for distance, assessed in CASES
    }
    torch.save(cases, folder / "cases.pt")
    return cases, run_ranks(FOLDER / "share_process.py", folder, weights_only=False)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_two_processes_label_as_one_does(labelled, case):
    cases, found = labelled
    features, cameras, options = cases[case]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = vars(estimate_pseudo_labels(features, cameras, **options))
    finally:
        torch.set_num_threads(threads)
    assert alone["labels"].max() > 5
    for rank in found:
        for name, value in alone.items():
            np.testing.assert_array_equal(rank[case][name], value, err_msg=name)


def test_each_exchange_brings_together_what_the_processes_have(labelled):
    rows = np.arange(5)[:, None] * [1.0, 0.5]
    for number, found in enumerate(labelled[1]):
        got = found["arrays"]
        assert got["agreed"] == "worker 0"
        np.testing.assert_array_equal(got["gathered"], np.array([[0, 1, 2]], dtype=np.int32), strict=True)
        assert got["nothing"].shape == (0, 2)
        own = slice(0, 2) if number == 0 else slice(2, 5)
        np.testing.assert_array_equal(got["swapped"], np.stack([rows[own], rows[own] + 10]), strict=True)
        np.testing.assert_array_equal(got["summed"], [2**61 + 1, -2])
        np.testing.assert_array_equal(got["largest"], [1, -np.inf])


def test_processes_that_are_at_different_exchanges_say_so(labelled):
    first, second = (found["error"] for found in labelled[1])
    assert first.startswith("processes 0 and 1 label differently: one is at its exchange")
    assert "(largest), the other" in first
    assert second.startswith("processes 1 and 0 label differently")


@pytest.mark.parametrize(
    ("how", "said"),
    [("error", "UserError: the disk is full"), ("killed", "process 1 terminated with signal SIGKILL")],
)
def test_a_process_that_fails_in_the_pass_ends_the_run(tmp_path, how, said):
    """By its error where it has one; the others do not wait for it."""
    command = [sys.executable, str(FOLDER / "failing_share_process.py"), how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, cwd=tmp_path)
    assert done.returncode != 0
    assert "labelled" not in done.stdout
    assert said in done.stderr
