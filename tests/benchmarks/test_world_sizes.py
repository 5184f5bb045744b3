"""Fifty steps in float64 are the same in one process, in two and in four, with the same batches.

What is compared is seen by the benchmark's own witness; `compared` itself is held by what it must notice.
"""

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nplp.engine.trainer import ReidTrainer
from tiny import TINY
from world_sizes import (
    ITERATIONS,
    OF_METHOD,
    OF_TARGET,
    OVERLAYS,
    SAME,
    SMALL,
    STEPS,
    adapt,
    compared,
    configuration,
    table,
)

SCRIPT = Path(__file__).with_name("world_size_process.py")
MOST = 1e-4
"""What a mistake exceeds by far; differences of rounding are about 1e-9."""
FOR_TEST = {
    **{f"DATASETS.SYNTHETIC.{key}": value for key, value in TINY.items()},
    # Each of two processes has two identities, and one chunk.
    "SOLVER.IMS_PER_BATCH": 8,
    # Nothing is evaluated: how good tiny models are tells nothing.
    "DATASETS.TESTS": "()",
    "DATASETS.VERIFY": False,
    "NPLP.ALPHA": 0.08,
}
CLUSTERED = {
    "memory": {"NPLP.MEMORY.K1": 20, "NPLP.MEMORY.EPSILON": 0.4},
    "o2cap": {"NPLP.O2CAP.K1": 20, "NPLP.O2CAP.EPSILON": 0.4},
}
"""By which even untrained weights give some clusters."""

OptionsOf = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def options_of(synthetic_root, tmp_path_factory) -> OptionsOf:
    """Return a function that gives the options of a method's run, which begins from untrained weights."""
    folder = tmp_path_factory.mktemp("weights")

    def of(method: str, **changed: Any) -> dict[str, Any]:
        options = {
            **SMALL,
            **OF_TARGET,
            **OF_METHOD[method],
            **FOR_TEST,
            **CLUSTERED.get(method, {}),
            **SAME,
        }
        options |= {"NPLP.METHOD": method, "DATASETS.SYNTHETIC.ROOT": str(synthetic_root)}
        weights = folder / f"{method}.pth"
        if not weights.exists():
            torch.manual_seed(0)
            model = ReidTrainer.build_model(configuration(method, options))
            torch.save({"model": model.state_dict()}, weights)
        options |= {"NPLP.SOURCE.WEIGHTS": str(weights)}
        return options | {key.replace("__", "."): value for key, value in changed.items()}

    return of


def alone(options_of: OptionsOf, folder: Path, **changed: Any) -> dict[str, dict[str, Any]]:
    """Return what was seen of each method's run in one process."""
    return {
        method: adapt(method, {**options_of(method, **changed), "OUTPUT_DIR": str(folder / method)})
        for method in OVERLAYS
    }


def together(
    options_of: OptionsOf, folder: Path, size: int, **changed: Any
) -> list[dict[str, dict[str, Any]]]:
    """Return what each of several processes saw of each method's run."""
    runs = {
        method: {
            "method": method,
            "options": {**options_of(method, **changed), "OUTPUT_DIR": str(folder / method)},
        }
        for method in OVERLAYS
    }
    (folder / "runs.json").write_text(json.dumps(runs))
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(size), str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return [torch.load(folder / f"rank{rank}.pth", weights_only=True) for rank in range(size)]


def check(ranks: list[dict[str, dict[str, Any]]], one: dict[str, dict[str, Any]]) -> None:
    """Compare each method's run in several processes with that in one."""
    for method in OVERLAYS:
        row = compared([seen[method] for seen in ranks], one[method])
        assert (row["labels_equal"], row["processes_equal"]) == (True, True), method
        assert max(row["losses"], row["weights"]) < MOST, method


@pytest.fixture(scope="module")
def of_one(options_of, tmp_path_factory):
    return alone(options_of, tmp_path_factory.mktemp("one"))


def test_there_is_something_to_compare(of_one):
    """Clusters, other ones in the second iteration, and losses that training changes."""
    for seen in of_one.values():
        first, second = seen["labels"]
        assert min(int(labels.max()) for labels in (first, second)) >= 1
        assert not torch.equal(first, second)
        totals = {round(sum(losses.values()), 3) for losses in seen["losses"]}
        assert len(seen["losses"]) == STEPS * ITERATIONS
        assert len(totals) > STEPS


def test_two_processes_train_as_one(of_one, options_of, tmp_path):
    check(together(options_of, tmp_path, 2), of_one)


@pytest.mark.long
@pytest.mark.parametrize("size", [2, 4])
def test_more_processes_train_as_one_that_takes_parts(options_of, tmp_path, size):
    """Together they take four parts."""
    batch = {"SOLVER__IMS_PER_BATCH": 16}
    one = alone(options_of, tmp_path / "one", **batch, SOLVER__ACCUMULATE=4)
    check(together(options_of, tmp_path, size, **batch, SOLVER__ACCUMULATE=4 // size), one)


def test_a_run_that_is_stopped_goes_on_to_the_same_bits(options_of, of_one, tmp_path):
    """Stopped within an epoch, whose images are read again by their places."""
    done, undisturbed = STEPS + 20, of_one["memory"]
    options = {**options_of("memory"), "OUTPUT_DIR": str(tmp_path / "run")}
    assert adapt("memory", options, stop_after=done)["stopped"]
    resumed = adapt("memory", options, resume=True)
    assert resumed["losses"] == undisturbed["losses"][done:]
    assert all(torch.equal(value, undisturbed["weights"][name]) for name, value in resumed["weights"].items())


def seen(**changed):
    """Return what a process might have seen."""
    return {
        "losses": [{"loss_a": 1.0, "loss_b": 3.0}, {"loss_a": 2.0, "loss_b": 2.0}],
        "labels": [torch.tensor([0, 1, -1])],
        "weights": {"w": torch.ones(2)},
        "buffers": {"b": torch.zeros(3)},
        "memory": {"table": torch.ones(1)},
        "metrics": {"Rank-1": 50.0, "mAP": 25.0},
        **changed,
    }


def test_equal_runs_differ_by_nothing():
    row = compared([seen(), seen()], seen())
    assert (row["losses"], row["weights"]) == (0, 0)
    assert row["labels_equal"]
    assert row["processes_equal"]


@pytest.mark.parametrize(
    ("changed", "key", "value"),
    [
        # The mean over the two processes is 4.2 and 4, of 4 and 4.
        ({"losses": [{"loss_a": 1.4, "loss_b": 3.0}, {"loss_a": 2.0, "loss_b": 2.0}]}, "losses", 0.05),
        ({"memory": {"table": torch.zeros(1)}}, "processes_equal", False),
        ({"buffers": {"b": torch.ones(3)}}, "processes_equal", False),
    ],
)
def test_what_differs_between_processes_is_noticed(changed, key, value):
    assert compared([seen(), seen(**changed)], seen())[key] == pytest.approx(value)


def test_what_differs_from_one_process_is_noticed():
    other = seen(labels=[torch.tensor([0, 1, 1])], weights={"w": torch.tensor([1.0, 0.75])})
    row = compared([other, copy.deepcopy(other)], seen())
    assert (row["labels_equal"], row["weights"], row["processes_equal"]) == (False, 0.25, True)


def test_the_table_has_a_row_with_and_one_without_the_key():
    row = compared([seen()], seen())
    other = {**row, "losses": 0.25, "labels_equal": False}
    lines = table({"memory": {"with": {"1": row, "2": row}, "without": {"1": row, "2": other}}}).splitlines()
    assert [cell.strip() for cell in lines[0].split("|")][-2] == "mAP, 1 / 2"
    assert [cell.strip() for cell in lines[3].split("|")][1:-1] == [
        *("`memory`", "without", "2e-01", "no", "yes", "50.0 / 50.0", "25.0 / 25.0")
    ]
    assert len(lines) == 4
