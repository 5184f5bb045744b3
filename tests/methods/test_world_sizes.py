"""Fifty steps in float64 are the same in one process, in two and in four, with the same batches."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from method_runs import Case, config_of
from nplp.engine.trainer import ReidTrainer
from world_size_runs import adapt

SCRIPT = Path(__file__).parents[1] / "world_size_runs.py"
STEPS, ITERATIONS = 25, 2
TOLERANCE = 1e-4
"""What a mistake exceeds by far; differences of rounding are about 1e-9."""

SAME = {
    "NPLP.SAME_AT_ANY_WORLD_SIZE": True,
    "NPLP.STEPS_PER_EPOCH": STEPS,
    "NPLP.ITERATIONS": ITERATIONS,
    # Each of two processes has two identities, and one chunk.
    "SOLVER.IMS_PER_BATCH": 8,
    "DATALOADER.NUM_INSTANCE": 2,
    "MODEL.NORM_CHUNK": 4,
    **{f"INPUT.{name}.ENABLED": True for name in ("FLIP", "PADDING", "REA")},
}
CASES = {
    "nplp": Case(options=SAME),
    "memory": Case("memory", {"NPLP.MEMORY.K1": 20, "NPLP.MEMORY.EPSILON": 0.4, **SAME}),
    "o2cap": Case("o2cap", {"NPLP.O2CAP.EPSILON": 0.4, **SAME}),
}

Words = Callable[..., list[str]]


@pytest.fixture(scope="module")
def words(synthetic_root, tmp_path_factory) -> Words:
    """Return a function that gives a case's words for a run in a folder, with options besides."""
    folder = tmp_path_factory.mktemp("weights")

    def of(name: str, output: Path, **options: Any) -> list[str]:
        path, case = folder / f"{name}.pth", CASES[name]
        if not path.exists():
            cfg = config_of(case.words(name, synthetic_root, output)).clone()
            cfg.defrost()
            cfg.MODEL.BACKBONE.PRETRAIN = False
            torch.manual_seed(0)
            torch.save({"model": ReidTrainer.build_model(cfg).state_dict()}, path)
        pairs = {key.replace("__", "."): value for key, value in options.items()}
        return [*case.words(name, synthetic_root, output, path), *(str(w) for p in pairs.items() for w in p)]

    return of


def alone(words: Words, folder: Path, **options: Any) -> dict[str, dict[str, Any]]:
    """Return what was seen of each method's run in one process."""
    return {name: adapt(words(name, folder / name, **options)) for name in CASES}


def together(words: Words, folder: Path, size: int, **options: Any) -> list[dict[str, dict[str, Any]]]:
    """Return what each of several processes saw of each method's run."""
    (folder / "cases.json").write_text(
        json.dumps({name: words(name, folder / name, **options) for name in CASES})
    )
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


def assert_same(ours: dict[str, Any], theirs: dict[str, Any], tolerance: float) -> None:
    """Compare labels to the bit, losses by their ratio, and weights, buffers and memories."""
    assert len(ours["losses"]) == len(theirs["losses"]) == STEPS * ITERATIONS
    for mine, other in zip(ours["labels"], theirs["labels"], strict=True):
        assert torch.equal(mine, other)
    for mine, other in zip(ours["losses"], theirs["losses"], strict=True):
        assert mine == pytest.approx(other, rel=tolerance, abs=0)
    for kind in ("parameters", "buffers", "method"):
        mine, other = (
            {k: v for k, v in seen[kind].items() if hasattr(v, "shape")} for seen in (ours, theirs)
        )
        assert mine.keys() == other.keys()
        for name, value in other.items():
            torch.testing.assert_close(mine[name], value, rtol=tolerance, atol=tolerance, msg=name)


def check(one: dict[str, dict[str, Any]], several: list[dict[str, dict[str, Any]]]) -> None:
    """Compare every process with the run in one, and with each other to the bit."""
    first, *others = several
    for name in CASES:
        assert_same(first[name], one[name], TOLERANCE)
        for other in others:
            assert_same(other[name], first[name], 0.0)


@pytest.fixture(scope="module")
def of_one(words, tmp_path_factory):
    return alone(words, tmp_path_factory.mktemp("one"))


def test_there_is_something_to_compare(of_one):
    """Clusters, other ones in the second iteration, and losses that training changes."""
    for seen in of_one.values():
        first, second = seen["labels"]
        assert min(int(labels.max()) for labels in (first, second)) >= 1
        assert not torch.equal(first, second)
        totals = [sum(losses.values()) for losses in seen["losses"]]
        assert len({round(total, 3) for total in totals}) > STEPS


def test_two_processes_train_as_one(of_one, words, tmp_path):
    check(of_one, together(words, tmp_path, 2))


@pytest.mark.long
@pytest.mark.parametrize("size", [2, 4])
def test_more_processes_train_as_one_that_takes_parts(words, tmp_path, size):
    """Together they take four parts."""
    batch = {"SOLVER__IMS_PER_BATCH": 16, "MODEL__NORM_CHUNK": 2}
    one = alone(words, tmp_path / "one", **batch, SOLVER__ACCUMULATE=4)
    check(one, together(words, tmp_path, size, **batch, SOLVER__ACCUMULATE=4 // size))


def test_a_run_that_is_stopped_goes_on_to_the_same_bits(words, of_one, tmp_path):
    """Stopped within an epoch, of which images are read again by their places."""
    asked = words("memory", tmp_path / "run")
    assert adapt(asked, stop_after=STEPS + 20)["stopped"]
    resumed = adapt(asked, resume=True)
    assert len(resumed["losses"]) == STEPS - 20
    assert resumed["losses"] == of_one["memory"]["losses"][STEPS + 20 :]
    assert all(
        torch.equal(value, of_one["memory"]["parameters"][name])
        for name, value in resumed["parameters"].items()
    )
