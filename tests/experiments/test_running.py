"""A small matrix, carried out for real: shared, stopped, gone on with, and equal to runs of their own."""

import argparse
import json

import pytest

from nplp.engine.pipeline import run
from nplp.engine.setup import load_config, prepare_output
from nplp.errors import UserError
from nplp.experiments import running
from nplp.experiments.definitions import Domain, Experiment, Setting
from nplp.experiments.plan import plan
from nplp.experiments.running import finished, results_of, run_missing
from tiny import make_tiny_cfg

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


def test_what_is_shared_is_run_once(matrix):
    _, folder, runs, _ = matrix
    assert [run.key.rpartition("/")[2] for run in runs] == ["source", "startup", "alone", "startup", "full"]
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
    monkeypatch.setattr(running, "_settings", lambda run: "others")
    with pytest.raises(UserError, match="holds a run of other settings"):
        run_missing(runs, folder)


def test_a_run_that_fails_is_named_and_what_needs_it_is_not_begun(synthetic_root, tmp_path, caplog):
    config = tmp_path / "tiny.yml"
    config.write_text(make_tiny_cfg(synthetic_root, tmp_path / "unused").dump())
    domain = Domain("synthetic", {"d2m": str(config)}, {"d2m": "Plaza to Station"})
    broken = Experiment(
        "broken", "", (Setting("x", "full", (), (("NPLP.MIN_SAMPLES", 0),)),), ("d2m",), seeds=1
    )
    runs, _ = plan(domain, [broken], [0])
    (tmp_path / "runs" / runs[0].key / "source").mkdir(parents=True)
    done = {"settings": running._settings(runs[0]), "seconds": 0, "commit": ""}
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
