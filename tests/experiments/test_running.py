"""A small matrix, carried out for real: shared, stopped, gone on with, and equal to runs of their own."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from nplp.engine.pipeline import run
from nplp.engine.setup import load_config, prepare_output
from nplp.errors import UserError
from nplp_experiments import running
from nplp_experiments.definitions import Domain, Experiment, Setting
from nplp_experiments.plan import Run, code_digest, plan
from nplp_experiments.running import finished, run_missing
from tiny import make_tiny_cfg

CARRY_OUT = """
import logging, pathlib, sys
from nplp_experiments.definitions import Domain, Experiment, Setting
from nplp_experiments.plan import plan
from nplp_experiments.running import run_missing
config, folder = sys.argv[1:]
row = Setting("NPLP", "full", (), (("NPLP.NOISY_FRACTION", 0.4),))
domain = Domain("synthetic", {"d2m": config}, {"d2m": "Plaza to Station"})
runs, _ = plan(domain, [Experiment("small", "", (row,), ("d2m",))], [0])
logging.basicConfig(format="%(message)s", level=logging.INFO)
run_missing(runs, pathlib.Path(folder))
"""
"""What tools/reproduce.py does, for the small matrix."""

ROWS = (Setting("w/ SS", "startup"), Setting("NPLP", "full", (), (("NPLP.NOISY_FRACTION", 0.4),)))
SMALL = Experiment("small", "A small table", ROWS, ("d2m",), seeds=1)


@pytest.fixture(scope="module")
def matrix(synthetic_root, tmp_path_factory):
    """A domain of seconds, the folder of its runs, the runs and the cells; the runs have ended."""
    folder = tmp_path_factory.mktemp("matrix")
    config = folder / "tiny.yml"
    config.write_text(make_tiny_cfg(synthetic_root, folder / "unused").dump())
    domain = Domain("synthetic", {"d2m": str(config)}, {"d2m": "Plaza to Station"})
    runs, cells = plan(domain, [SMALL], [0])
    assert run_missing(runs, folder, jobs=2) == []
    return domain, folder, runs, cells["small"]


def results_of(run, folder):
    """Return all that a run left of its results, to the last digit."""
    content = json.loads((folder / run / "results.json").read_text())
    lines = (folder / run / "pseudo_labels.jsonl").read_text().splitlines()
    return {**content, "history": [json.loads(line) for line in lines]}


def test_what_is_shared_is_run_once(matrix):
    _, folder, runs, _ = matrix
    assert [run.key.rpartition("/")[2] for run in runs] == ["source", "startup", "alone", "full"]
    assert all(finished(run, folder) for run in runs)
    assert len({run.source for run in runs if run.source}) == 1


def test_a_branch_ends_as_a_run_of_its_own(matrix, tmp_path):
    domain, folder, runs, cells = matrix
    source = folder / runs[0].key / "source" / "model_final.pth"
    for cell in cells:
        last = next(run for run in runs if run.key == cell.run)
        options = [word for pair in last.options for word in pair]
        options += ["OUTPUT_DIR", str(tmp_path / cell.row.reach), "NPLP.SOURCE.WEIGHTS", str(source)]
        cfg = load_config(argparse.Namespace(config_file=domain.directions["d2m"], opts=options))
        prepare_output(cfg)
        straight = run(cfg, cfg, resume=False)
        branched = results_of(cell.run, folder)
        assert branched["final"] == straight["final"]
        assert branched["direct_transfer"] == straight["direct_transfer"]
        lines = (tmp_path / cell.row.reach / "pseudo_labels.jsonl").read_text().splitlines()
        assert branched["history"] == [json.loads(line) for line in lines]


def test_what_nothing_needs_any_more_is_removed(matrix):
    _, folder, runs, _ = matrix
    for one in runs:
        left = {path.name for path in (folder / one.key).rglob("*.pth")}
        stage = one.key.rpartition("/")[2]
        if stage == "source":
            assert left == {"model_final.pth"}
        else:
            assert len(left) == (1 if stage == "startup" else 0)


def test_nothing_is_run_twice(matrix, monkeypatch):
    _, folder, runs, _ = matrix
    monkeypatch.setattr(running, "_start", lambda *_: 1 / 0)
    assert run_missing(runs, folder) == []


def test_another_configuration_under_the_same_name_is_refused(matrix, monkeypatch):
    _, folder, runs, _ = matrix
    monkeypatch.setattr(Run, "settings", "others")
    with pytest.raises(UserError, match="holds a run of other settings"):
        run_missing(runs, folder)


def test_runs_of_other_code_are_not_taken_for_done(matrix, monkeypatch):
    _, folder, runs, _ = matrix
    monkeypatch.setattr(running, "code_digest", lambda: "another")
    with pytest.raises(UserError, match="was made by other code .*--other-code"):
        run_missing(runs, folder)
    assert run_missing(runs, folder, other_code=True) == []


def test_a_run_that_fails_is_named_and_what_needs_it_is_not_begun(synthetic_root, tmp_path, caplog):
    config = tmp_path / "tiny.yml"
    config.write_text(make_tiny_cfg(synthetic_root, tmp_path / "unused").dump())
    domain = Domain("synthetic", {"d2m": str(config)}, {"d2m": "Plaza to Station"})
    broken = Experiment(
        "broken", "", (Setting("x", "full", (), (("NPLP.MIN_SAMPLES", 0),)),), ("d2m",), seeds=1
    )
    runs, _ = plan(domain, [broken], [0])
    (tmp_path / "runs" / runs[0].key / "source").mkdir(parents=True)
    done = {"settings": runs[0].settings, "seconds": 0, "commit": "", "code": code_digest()}
    (tmp_path / "runs" / runs[0].key / "done.json").write_text(json.dumps(done))
    failed = run_missing(runs, tmp_path / "runs")
    assert failed == [run.key for run in runs[1:]]
    assert "NPLP.MIN_SAMPLES must be at least 1" in caplog.text


def test_a_matrix_that_is_stopped_goes_on_where_it_was(matrix, tmp_path, monkeypatch):
    domain, folder, _, cells = matrix
    runs, _ = plan(domain, [SMALL], [0])
    started = []
    begin = running._start

    def stopping(one, *rest):
        if len(started) == 2:
            raise KeyboardInterrupt
        started.append(one.key)
        return begin(one, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(running, "_start", stopping)
        with pytest.raises(KeyboardInterrupt):
            run_missing(runs, tmp_path)
    assert [finished(one, tmp_path) for one in runs[:2]] == [True, True]
    assert run_missing(runs, tmp_path) == []
    for cell in cells:
        ours, theirs = results_of(cell.run, tmp_path), results_of(cell.run, folder)
        assert ours["final"] == theirs["final"]
        assert ours["history"] == theirs["history"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_a_killed_matrix_leaves_no_run_behind_and_goes_on_to_the_same_results(matrix, tmp_path):
    domain, folder, _, cells = matrix
    words = [sys.executable, "-c", CARRY_OUT, domain.directions["d2m"], str(tmp_path)]
    first = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    source = next(iter(cells)).run.split("/")
    checkpoints = tmp_path / source[0] / source[1]
    while not list(checkpoints.rglob("source/epoch_*.pth")):
        assert first.poll() is None, first.stderr.read()
        time.sleep(0.05)
    first.kill()
    first.wait()
    # At once: the run that was left may still save its step, which is waited for.
    second = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert second.returncode == 0, second.stderr
    full = next(cell.run for cell in cells if cell.row.reach == "full")
    ours, theirs = results_of(full, tmp_path), results_of(full, folder)
    assert ours["final"] == theirs["final"]
    assert ours["history"] == theirs["history"]


def test_a_second_matrix_in_the_same_folder_is_refused(matrix, tmp_path, monkeypatch, caplog):
    fcntl = pytest.importorskip("fcntl")
    _, _, runs, _ = matrix
    monkeypatch.setattr(running, "PATIENCE", 0.5)
    with open(tmp_path / running.LOCK, "w") as held, caplog.at_level("INFO"):
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process carries out runs in .* --folder"):
            run_missing(runs, tmp_path)
    assert "Waiting for the runs that another process began" in caplog.text
    assert os.listdir(tmp_path) == [running.LOCK], "nothing was begun"


def test_a_child_gets_the_signal_that_it_asked_for_when_its_parent_dies(tmp_path):
    if sys.platform != "linux":
        pytest.skip("only Linux tells a process that its parent died")
    code = (
        "import functools, signal, subprocess, sys, time\n"
        "from nplp.distributed.processes import end_with_parent\n"
        "trap = 'trap \"touch ended; exit\" TERM; touch begun; while true; do sleep 0.05; done'\n"
        "asked = functools.partial(end_with_parent, signal.SIGTERM)\n"
        "subprocess.Popen(['sh', '-c', trap], preexec_fn=asked)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    _wait_for(tmp_path / "begun")
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _wait_for(tmp_path / "ended")


def _wait_for(path):
    for _ in range(1200):
        if path.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} did not come")
