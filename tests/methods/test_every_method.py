"""What holds for every method: one process and two train alike, and a resumed run ends with the same bits.

A new method needs an entry in `CASES` and nothing else here.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from method_runs import STEPS, Case, adapt, config_of
from nplp.engine.pipeline import run
from nplp.engine.setup import prepare_output
from nplp.engine.trainer import ReidTrainer
from nplp.methods import METHODS
from tiny import make_tiny_cfg

SCRIPT = Path(__file__).parents[1] / "method_runs.py"

ONE_PART = {
    "MODEL.HEADS.PAP": 1,
    "MODEL.HEADS.FUSION": "concat",
    "MODEL.HEADS.OUTPUT": "f_bn",
    "MODEL.HEADS.NECK_BIAS": False,
}
"""A head with the average of the feature map and a BN neck."""

CASES = {
    "nplp": Case(),
    "memory": Case(
        options={
            **ONE_PART,
            "MODEL.LOSSES.NAME": "ClusterMemoryLoss",
            "DATALOADER.SAMPLER_TRAIN": "BalancedIdentitySampler",
            "NPLP.MEMORY.K1": 20,
            "NPLP.MEMORY.EPSILON": 0.4,
        },
    ),
    "cap": Case("cap", {"NPLP.CAP.EPSILON": 0.4}),
    "o2cap": Case("o2cap", {"NPLP.O2CAP.EPSILON": 0.4}),
    "mmt": Case("mmt", {"NPLP.MMT.RHO": 0.05, "NPLP.MMT.K1": 10}),
    "spcl": Case(
        options={
            **ONE_PART,
            "MODEL.LOSSES.NAME": "HybridMemoryLoss",
            "DATALOADER.SAMPLER_TRAIN": "BalancedIdentitySampler",
            "NPLP.SPCL.K1": 20,
            "NPLP.SPCL.EPSILON": 0.4,
        },
    ),
    "uda": Case("uda", {"NPLP.UDA.RHO": 0.08}, state_stays=True),
    "ssg": Case("ssg", {"NPLP.SSG.RHO": 0.08}),
    "pplr": Case(
        "pplr_cam",
        {"NPLP.PPLR.PARTS": 2, "NPLP.PPLR.K1": 20, "NPLP.PPLR.NEIGHBOURS": 8},
    ),
}
REGISTERED = tuple(METHODS)
"""Before other tests register methods of theirs."""


def test_every_method_has_a_case():
    missing = sorted({*REGISTERED} - {*CASES})
    assert not missing, f"add a Case for {', '.join(missing)} to CASES in {Path(__file__).name}"
    assert {*CASES} <= {*REGISTERED}


@pytest.fixture(scope="module")
def backbone(synthetic_root, tmp_path_factory):
    """Weights of a backbone that was trained a little on the source."""
    folder = tmp_path_factory.mktemp("source")
    cfg = make_tiny_cfg(synthetic_root, folder, "NPLP.ITERATIONS", 0, "DATASETS.TESTS", "()")
    prepare_output(cfg)
    run(cfg, cfg, resume=False)
    weights = torch.load(folder / "source" / "model_final.pth", weights_only=True)["model"]
    return {key: value for key, value in weights.items() if key.startswith("backbone.")}


@pytest.fixture(scope="module")
def words(backbone, synthetic_root, tmp_path_factory):
    """Return a function that gives a case's words for a run in a folder."""
    folder = tmp_path_factory.mktemp("weights")

    def of(name: str, output: Path) -> list[str]:
        path, case = folder / f"{name}.pth", CASES[name]
        if not path.exists():
            # The trained backbone with the head of the method.
            torch.manual_seed(0)
            cfg = config_of(case.words(name, synthetic_root, output)).clone()
            cfg.defrost()
            cfg.MODEL.BACKBONE.PRETRAIN = False
            torch.save({"model": {**ReidTrainer.build_model(cfg).state_dict(), **backbone}}, path)
        return case.words(name, synthetic_root, output, path)

    return of


@pytest.fixture(scope="module")
def undisturbed(words, tmp_path_factory):
    """Return a function that gives what was seen of a method's run in one process."""
    seen: dict[str, dict[str, Any]] = {}

    def of(name: str) -> dict[str, Any]:
        if name not in seen:
            seen[name] = adapt(words(name, tmp_path_factory.mktemp(name)))
        return seen[name]

    return of


@pytest.fixture(scope="module")
def in_two_processes(words, tmp_path_factory):
    """What each of two processes saw of each method's run, all in the same two."""
    folder = tmp_path_factory.mktemp("two_processes")
    cases = {name: words(name, folder / name) for name in CASES}
    (folder / "cases.json").write_text(json.dumps(cases))
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "2", str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return [torch.load(folder / f"rank{rank}.pth", weights_only=True) for rank in range(2)]


def assert_equal(ours: Any, theirs: Any, tolerance: float = 0.0) -> None:
    """Compare tensors, numbers, texts and what holds them, to the bit by default."""
    assert type(ours) is type(theirs)
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert_equal(ours[key], theirs[key], tolerance)
    elif isinstance(ours, list):
        assert len(ours) == len(theirs)
        for own, other in zip(ours, theirs, strict=True):
            assert_equal(own, other, tolerance)
    elif isinstance(ours, torch.Tensor):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance, equal_nan=True)
    else:
        assert ours == theirs


@pytest.mark.parametrize("name", CASES)
def test_there_is_something_to_compare(undisturbed, name):
    """Several clusters, and a state that training or the next clustering changes."""
    seen = undisturbed(name)
    assert int(seen["begun"]["labels"].max()) >= 2
    changes = "labels" if CASES[name].state_stays else "method"
    with pytest.raises(AssertionError):
        assert_equal(seen["ended"][changes], seen["begun"][changes])


@pytest.mark.parametrize("name", CASES)
def test_two_processes_hold_the_same(in_two_processes, name):
    first, second = (seen[name] for seen in in_two_processes)
    assert_equal(first, second)


@pytest.mark.parametrize("name", CASES)
def test_two_processes_begin_as_one_and_take_the_same_step(undisturbed, in_two_processes, name):
    """After the first step losses that mine in their process's share of a batch make a difference."""
    one, two = undisturbed(name), in_two_processes[0][name]
    assert_equal(two["begun"], one["begun"])
    assert_equal(two["after a step"], one["after a step"], tolerance=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_a_run_that_is_stopped_and_resumed_ends_with_the_same_bits(words, undisturbed, tmp_path, name):
    """Stopped in the second of three iterations, when training has moved the memory that began there."""
    asked = words(name, tmp_path / "run")
    assert adapt(asked, stop_after=STEPS + 2)["stopped"]
    resumed = adapt(asked, resume=True)
    assert "begun" not in resumed, "it began afresh"
    for key in ("ended", "weights"):
        assert_equal(resumed[key], undisturbed(name)[key])
