"""An adaptation that is killed in training and while its products are made ends as the undisturbed one."""

import multiprocessing
import os
import signal
import sys

import torch

import killed_adaptation
from adapt_cases import SHORT
from nplp.adapt.request import Request
from nplp.search import Index

# Each run but the first goes on with the one before. Counts are of calls since then.
KILLS = {
    "before the first checkpoint": ("nplp.engine.trainer:ReidTrainer.run_step", 2, "after"),
    "a step of the second iteration": ("nplp.engine.trainer:ReidTrainer.run_step", 3, "after"),
    "the bundle, half-written": ("nplp.export.bundle:write_programs", 1, "before"),
    "the bundle, before it has its name": ("nplp.export.bundle:_move", 1, "before"),
    "the index, before what names its vectors": ("nplp.search.index:sha256_of", 1, "before"),
    "a bundle, half replaced": ("pathlib:Path.replace", 2, "after"),
}


def in_a_process(*words):
    """Adapt in a new process, forked from one that has loaded the library, and return its exit code."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killed_adaptation"])
    process = context.Process(target=killed_adaptation.go, args=words)
    process.start()
    process.join(240)
    return process.exitcode


def test_a_run_killed_in_every_stage_ends_as_the_undisturbed_one(crops, weights, tmp_path, monkeypatch):
    # Where the server of processes looks for what it loads first.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    request, undisturbed = (
        Request(str(crops), str(weights), str(tmp_path / name), options=(*SHORT, "NPLP.REPORT", "False"))
        for name in ("run", "undisturbed")
    )
    assert in_a_process(undisturbed, False, None) == 0
    for number, (stage, kill) in enumerate(KILLS.items()):
        if stage == "a bundle, half replaced":
            assert in_a_process(request, True, None) == 0
        assert in_a_process(request, number > 0, kill) == -signal.SIGKILL, stage
    assert in_a_process(request, True, None) == 0
    assert_same_end(tmp_path / "run", tmp_path / "undisturbed")


def assert_same_end(output, reference):
    """Compare weights, labels, the bundle's model and the index, and that nothing else is there."""
    for name in ("model_final.pth", "model_final_ema.pth"):
        ours, theirs = (torch.load(path / name, weights_only=True)["model"] for path in (output, reference))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    for name in ("pseudo_labels.jsonl", "bundle/model.safetensors", "bundle/config.yaml"):
        assert (output / name).read_bytes() == (reference / name).read_bytes(), name
    assert names_in(output / "index") == names_in(reference / "index")
    assert Index.load(output / "index").paths == Index.load(reference / "index").paths
    assert names_in(output / "bundle") == names_in(reference / "bundle")
    assert names_in(output) == names_in(reference)


def names_in(folder):
    """Return the names in a folder, of checkpoints and TensorBoard's files without their sums and times."""
    return {
        path.name.partition("-")[0]
        if path.suffix == ".pth"
        else path.name.partition(".out.")[0]
        if ".out." in path.name
        else path.name
        for path in folder.iterdir()
    }
