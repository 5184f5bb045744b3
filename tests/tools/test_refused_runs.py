"""A run that is refused, with one line and code 2, changes no byte of its folder, nor beside it."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nplp.files import save_atomically
from tiny import tiny_options

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "configs" / "NPLP" / "quickstart.yml")
SHORT = {
    "NPLP.ITERATIONS": 2,
    "NPLP.STARTUP_ITERATIONS": 1,
    "NPLP.SOURCE.MAX_EPOCH": 1,
    "NPLP.EVAL_PERIOD": 0,
}


def tree(folder):
    """Return the SHA-256 sum of every file below a folder, and its subfolders."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(scope="module")
def original(load_tool, synthetic_root, tmp_path_factory):
    """The folder that holds the folder of a finished run, and what was given to train it."""
    place = tmp_path_factory.mktemp("original")
    process = subprocess.run(
        [sys.executable, "tools/train_net.py", "--config-file", CONFIG, *words(synthetic_root, place)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return place


def words(synthetic_root, place, **changed):
    options = tiny_options(synthetic_root, place / "run")
    pairs = {**dict(zip(options[::2], options[1::2], strict=True)), **SHORT, **changed}
    return [str(word) for pair in pairs.items() for word in pair]


@pytest.fixture
def call(load_tool, call_tool, synthetic_root, original, tmp_path):
    """Return a function that calls the tool on a copy of the finished run."""
    place = tmp_path / "place"
    shutil.copytree(original, place)

    def call(*flags, **changed):
        given = [*flags, *words(synthetic_root, place, **changed)]
        return call_tool(load_tool("train_net"), ["--config-file", CONFIG, *given])

    call.place = place
    return call


def damage_all(place):
    for path in (place / "run").glob("epoch_*.pth"):
        path.write_bytes(path.read_bytes()[:-100])


def remove_checkpoints(place):
    for path in (place / "run").glob("epoch_*.pth"):
        path.unlink()


def other_model(place):
    [path] = sorted((place / "run").glob("epoch_*.pth"))[-1:]
    state = torch.load(path, weights_only=True)
    state["model"] = {f"other.{key}": value for key, value in state["model"].items()}
    save_atomically(state, place / "run" / "epoch_9999_step_000000.pth", summed=True)


def bare_weights(place):
    save_atomically({"model": {}}, place / "run" / "epoch_9999_step_000000.pth", summed=True)


def unlike_weights(place):
    torch.save({"model": {"backbone.other": torch.zeros(2)}}, place / "other.pth")


def another_source(place):
    path = place / "run" / "source" / "model_final.pth"
    state = torch.load(path, weights_only=True)
    next(iter(state["model"].values())).add_(1)
    torch.save(state, place / "another.pth")


def damaged_source(place):
    remove_checkpoints(place)
    path = place / "run" / "source" / "model_final.pth"
    path.write_bytes(path.read_bytes()[:-100])


def nothing(place):
    del place


# What is done before, the flags, the settings, and what the line says.
RESUMED = {
    "another width of the embedding": (
        nothing,
        {"MODEL.HEADS.EMBEDDING_DIM": 48},
        "EMBEDDING_DIM 32 there, 48",
    ),
    "another seed": (nothing, {"SEED": 7}, "SEED 0 there, 7 now"),
    "another optimiser": (nothing, {"SOLVER.OPT": "SGD"}, "SOLVER.OPT 'Adam' there, 'SGD' now"),
    "another distance": (nothing, {"NPLP.DISTANCE": "euclidean"}, "NPLP.DISTANCE"),
    "another measure": (nothing, {"TEST.METRIC": "cosine"}, "TEST.METRIC"),
    "other steps of an epoch": (nothing, {"NPLP.STEPS_PER_EPOCH": 3}, "NPLP.STEPS_PER_EPOCH"),
    "another warm-up": (nothing, {"SOLVER.WARMUP_ITERS": 5}, "SOLVER.WARMUP_ITERS"),
    "another schedule of the source": (
        nothing,
        {"NPLP.SOURCE.MAX_EPOCH": 4},
        "NPLP.SOURCE.MAX_EPOCH 1 there, 4",
    ),
    "another rate of the source": (nothing, {"NPLP.SOURCE.BASE_LR": 0.5}, "NPLP.SOURCE.BASE_LR"),
    "fewer iterations than are done": (nothing, {"NPLP.ITERATIONS": 1}, "NPLP.ITERATIONS 1: the run in"),
    "another past": (nothing, {"NPLP.STARTUP_ITERATIONS": 2}, "NPLP.STARTUP_ITERATIONS 1 there, 2 now"),
    "a rate for a run that has ended": (nothing, {"SOLVER.BASE_LR": 0.5}, "SOLVER.BASE_LR"),
    "alpha for a run that has ended": (nothing, {"NPLP.ALPHA": 0.5}, "NPLP.ALPHA"),
    "damaged checkpoints": (damage_all, {}, "is whole"),
    "a checkpoint of another model": (other_model, {}, "does not fit"),
    "a checkpoint of no run": (bare_weights, {}, "is no checkpoint of a run"),
    "a missing data set": (nothing, {"DATASETS.NAMES": "('Market1501',)"}, "Market1501"),
    "another source model": (
        another_source,
        {"NPLP.SOURCE.WEIGHTS": "PLACE/another.pth"},
        "is another model",
    ),
    "a source model of another schedule": (
        remove_checkpoints,
        {"NPLP.SOURCE.GAMMA": 0.5},
        "NPLP.SOURCE.GAMMA 0.1 there, 0.5 now",
    ),
    "a damaged source model": (damaged_source, {}, "model_final.pth"),
}
AFRESH = {
    "weights that do not fit": (unlike_weights, {"NPLP.SOURCE.WEIGHTS": "PLACE/other.pth"}, "does not fit"),
    "missing weights": (nothing, {"NPLP.SOURCE.WEIGHTS": "PLACE/no.pth"}, "no.pth"),
    "the run's own model": (nothing, {"NPLP.SOURCE.WEIGHTS": "PLACE/run/model_final.pth"}, "whose place"),
    "a missing data set": (nothing, {"DATASETS.NAMES": "('Market1501',)"}, "Market1501"),
    "a missing source": (nothing, {"NPLP.SOURCE.DATASETS": "('Market1501',)"}, "Market1501"),
    "no optimiser of weights alone": (nothing, {"SOLVER.OPT": "lr_scheduler"}, "SOLVER.OPT 'lr_scheduler'"),
    "no such optimiser of the source": (nothing, {"NPLP.SOURCE.OPT": "Adamm"}, "NPLP.SOURCE.OPT 'Adamm'"),
    "an unknown depth": (
        nothing,
        {"MODEL.BACKBONE.DEPTH": "19x", "MODEL.BACKBONE.NAME": "build_resnet_backbone"},
        "19x",
    ),
    "an unknown loss": (nothing, {"MODEL.LOSSES.NAME": "('Hinge',)"}, "Hinge"),
}
CASES = {f"{name}, resumed": ("--resume", *case) for name, case in RESUMED.items()}
CASES.update({f"{name}, afresh": ("", *case) for name, case in AFRESH.items()})
CASES.update({f"{name}, over it": ("--overwrite", *case) for name, case in list(AFRESH.items())[:3]})


@pytest.mark.parametrize("name", CASES)
def test_a_refused_run_changes_nothing(call, name):
    flag, prepare, changed, said = CASES[name]
    prepare(call.place)
    before = tree(call.place)
    changed = {key: str(value).replace("PLACE", str(call.place)) for key, value in changed.items()}
    code, shown = call(*[flag] * bool(flag), **changed)
    assert code == 2, shown.out + shown.err
    assert said in shown.err.strip().splitlines()[-1]
    assert tree(call.place) == before


def test_a_folder_that_does_not_exist_is_not_made(call):
    before = tree(call.place)
    place = call.place / "new" / "deeper"
    code, _ = call(**{"OUTPUT_DIR": place, "NPLP.SOURCE.WEIGHTS": "no.pth"})
    assert code == 2
    assert tree(call.place) == before


HOLDER = """
import fcntl, json, sys
file = open(sys.argv[1], "a+b")
fcntl.lockf(file, fcntl.LOCK_EX)
file.write(json.dumps({"pid": 77, "host": "there", "since": "2026-01-02 03:04:05"}).encode())
file.flush()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("flags", [(), ("--resume",), ("--overwrite",)])
def test_a_folder_that_another_process_writes_into_is_refused_with_who_it_is(call, flags):
    command = [sys.executable, "-c", HOLDER, str(call.place / "run" / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        before = tree(call.place)
        code, shown = call(*flags)
        assert code == 2
        assert "is in use by process 77 on there since 2026-01-02 03:04:05" in shown.err
        assert tree(call.place) == before
        holder.stdin.close()


def test_what_a_killed_run_left_of_its_lock_refuses_nothing_and_stays_after_a_refusal(call):
    lock = call.place / "run" / ".lock"
    lock.write_text('{"pid": 1}')
    before = tree(call.place)
    assert call("--resume", SEED=7)[0] == 2
    assert tree(call.place) == before
    assert call("--resume")[0] == 0
    assert not lock.exists()


STRAY = {
    "a path after --resume": (["--resume", "logs/run"], "--resume takes no path"),
    "an option after the pairs": (["SEED", "1", "--resume"], "--resume stands among the KEY VALUE pairs"),
    "a word among the pairs": (["SEED", "1", "quickly", "SEED"], "'quickly' is no key"),
    "both": (["--resume", "--overwrite"], "leave one out"),
}


@pytest.mark.parametrize("name", STRAY)
def test_stray_words_are_named(call, name):
    given, said = STRAY[name]
    before = tree(call.place)
    code, shown = call(*given)
    assert code == 2
    assert said in shown.err
    assert tree(call.place) == before


def test_the_configuration_after_a_path_is_not_taken_for_a_pair(load_tool, call_tool):
    code, shown = call_tool(load_tool("train_net"), ["--resume", "logs/run", "--config-file", CONFIG])
    assert code == 2
    assert "--resume takes no path" in shown.err


def test_a_run_begun_again_keeps_the_earlier_one_and_says_where(call):
    run = call.place / "run"
    (run / "notes.txt").write_text("mine")
    before = {name: total for name, total in tree(run).items() if name != "notes.txt"}
    code, shown = call(**{"NPLP.ITERATIONS": 0})
    assert code == 0, shown.err
    kept = run / "earlier_runs" / "0001"
    assert f"The run that was in {run} is kept in {kept}" in shown.out
    assert re.search(r"holds 1 run\(s\), \d+\.\d MB, and may be deleted", shown.out)
    assert tree(kept) == before
    assert (run / "notes.txt").read_text() == "mine"
    assert set(json.loads((run / "results.json").read_text())).isdisjoint({"startup", "final"})
    assert "Direct transfer" in (run / "log.txt").read_text()
    assert not list(run.glob("epoch_*.pth"))
    # The earlier one goes on from where it is.
    code, shown = call("--resume", OUTPUT_DIR=kept)
    assert code == 0, shown.err
    assert "after epoch 2 of 2" in shown.out


def test_overwrite_removes_the_earlier_run(call):
    code, shown = call("--overwrite", **{"NPLP.ITERATIONS": 0})
    assert code == 0, shown.err
    assert "was removed, as --overwrite asks" in shown.out
    run = call.place / "run"
    assert not (run / "earlier_runs").exists()
    assert "final" not in json.loads((run / "results.json").read_text())


def test_a_source_model_in_the_folder_can_be_started_from_again(call):
    weights = call.place / "run" / "source" / "model_final.pth"
    content = weights.read_bytes()
    code, shown = call(**{"NPLP.ITERATIONS": 0, "NPLP.SOURCE.WEIGHTS": weights})
    assert code == 0, shown.err
    assert weights.read_bytes() == content
    assert not (call.place / "run" / "earlier_runs" / "0001" / "source").exists()


def test_a_run_whose_checkpoints_were_removed_is_kept_when_it_cannot_be_resumed(call):
    remove_checkpoints(call.place)
    run = call.place / "run"
    model = (run / "model_final.pth").read_bytes()
    code, shown = call("--resume", **{"NPLP.ITERATIONS": 0})
    assert code == 0, shown.err
    assert "Nothing to resume" in shown.out
    assert "already trained" in shown.out
    assert (run / "earlier_runs" / "0001" / "model_final.pth").read_bytes() == model


@pytest.mark.parametrize("weights", [False, True])
def test_resuming_needs_neither_the_source_model_nor_its_folder(call, weights):
    shutil.rmtree(call.place / "run" / "source")
    changed = {"NPLP.SOURCE.WEIGHTS": call.place / "gone.pth"} if weights else {}
    code, shown = call("--resume", **{"NPLP.ITERATIONS": 3, **changed})
    assert code == 0, shown.err
    assert "Pre-training" not in shown.out
    assert not (call.place / "run" / "source").exists()


def test_the_words_that_go_on_with_a_run_do_not_remove_it(call, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("nplp.engine.pipeline.run", interrupt)
    code, shown = call("--overwrite")
    assert code == 130
    assert "--resume" in shown.err
    assert "--overwrite" not in shown.err
