"""Runs with statistics of the target's cameras: what is measured, stored, used and resumed."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nplp.data.datasets import load_test_sets, load_training_items
from nplp.data.extraction import extract_features
from nplp.engine import adaptation, camera_statistics
from nplp.engine.adaptation import AdaptationTrainer
from nplp.engine.evaluating import evaluate
from nplp.engine.pipeline import evaluate_only, load_trained, run
from nplp.engine.setup import prepare_output
from nplp.errors import UserError
from nplp.evaluation.evaluator import BoundedReidEvaluator
from tiny import make_tiny_cfg, tiny_options

SCRIPT = Path(__file__).with_name("two_processes.py")
STATE = ("cameras.names", "camera_statistics.mean", "camera_statistics.deviation", "camera_statistics.count")


@pytest.fixture
def make(synthetic_root, source_weights, tmp_path):
    """A function that runs a tiny adaptation into a folder and returns its configuration and results."""

    def start(name, *pairs, treatment="mean", resume=False):
        switches = (
            "TEST.CAMERAS",
            treatment,
            "NPLP.SOURCE.WEIGHTS",
            source_weights,
            "NPLP.STEPS_PER_EPOCH",
            2,
        )
        cfg = make_tiny_cfg(synthetic_root, tmp_path / name, *switches, *pairs)
        prepare_output(cfg)
        return cfg, run(cfg, cfg, resume=resume)

    return start


def weights_of(cfg, name="model_final"):
    return torch.load(Path(cfg.OUTPUT_DIR) / f"{name}.pth", weights_only=True)["model"]


def assert_statistics_are_of_training_images(cfg, name="model_final"):
    """Compare what a file holds with the definition: of the raw features of the training images alone."""
    changed = cfg.clone()
    changed.defrost()
    changed.MODEL.WEIGHTS = str(Path(cfg.OUTPUT_DIR) / f"{name}.pth")
    model, _ = load_trained(changed)
    items = load_training_items(cfg)
    features = torch.nn.functional.normalize(extract_features(cfg, model, items, "Features")).double()
    cameras = np.array([item[2] for item in items])
    means = [features[cameras == camera].mean(dim=0) for camera in model.known_cameras]
    expected = torch.stack([*means, torch.stack(means).mean(dim=0)])
    held = weights_of(cfg, name)
    torch.testing.assert_close(held["camera_statistics.mean"].double(), expected, rtol=1e-5, atol=1e-6)
    counts = [int((cameras == camera).sum()) for camera in model.known_cameras]
    assert held["camera_statistics.count"].tolist() == [*counts, len(items)]
    return model


@pytest.mark.parametrize("treatment", ["mean", "standardize"])
def test_without_an_iteration_the_cameras_are_measured(make, source_weights, treatment):
    cfg, results = make("run", "NPLP.ITERATIONS", 0, "NPLP.STARTUP_ITERATIONS", 0, treatment=treatment)
    assert set(results) == {"direct_transfer", "final"}
    assert results["final"] != results["direct_transfer"]
    model = assert_statistics_are_of_training_images(cfg)
    held, source = weights_of(cfg), torch.load(source_weights, weights_only=True)["model"]
    assert set(STATE) <= held.keys()
    assert all(torch.equal(held[key], source[key]) for key in held if key in source)
    recorded = json.loads((Path(cfg.OUTPUT_DIR) / "results.json").read_text())
    assert recorded["final"] == results["final"]
    assert "camera statistics" in recorded["seconds"]
    # The direct transfer is the source model's own, without statistics.
    with model.raw_features():
        raw = evaluate(cfg, model, load_test_sets(cfg))
    assert raw == results["direct_transfer"]


def test_evaluation_uses_what_is_stored_by_the_cameras_names(make):
    cfg, results = make("run", "NPLP.ITERATIONS", 0)
    assert evaluate_only(cfg) == results["final"]
    model, _ = load_trained(cfg)
    (data,) = load_test_sets(cfg)
    seen = []
    model.camera_statistics.register_forward_pre_hook(lambda _, given: seen.append(given[1]))
    evaluate(cfg, model, [data])
    cameras = [camera for _, _, camera in data.query + data.gallery]
    # The synthetic domains' cameras are numbered from 0 in both sets.
    assert torch.cat(seen).tolist() == cameras
    assert {*cameras} == {0, 1, 2}


def test_another_networks_test_images_get_the_overall_row(make):
    cfg, results = make("run", "NPLP.ITERATIONS", 0, "DATASETS.TESTS", "SynthPlaza")
    model, _ = load_trained(cfg)
    seen = []
    model.camera_statistics.register_forward_pre_hook(lambda _, given: seen.append(given[1]))
    assert evaluate(cfg, model, load_test_sets(cfg)) == results["final"]
    assert set(torch.cat(seen).tolist()) == {3}


def test_test_images_decide_nothing(make, monkeypatch):
    """Not which there are, nor what the model makes of them."""
    ours = weights_of(make("ours", "NPLP.ITERATIONS", 0)[0])
    none = weights_of(make("none", "NPLP.ITERATIONS", 0, "DATASETS.TESTS", "()")[0])
    process = BoundedReidEvaluator.process
    monkeypatch.setattr(
        BoundedReidEvaluator, "process", lambda self, given, out: process(self, given, out.flip(0) * 7 + 1)
    )
    altered = weights_of(make("altered", "NPLP.ITERATIONS", 0)[0])
    for other in (none, altered):
        assert ours.keys() == other.keys()
        assert all(torch.equal(ours[key], other[key]) for key in ours)


def test_last_and_averaged_weights_have_their_own_statistics(make):
    cfg, results = make("run", "NPLP.EMA", True, "NPLP.ITERATIONS", 2)
    assert set(results) == {"direct_transfer", "startup", "final", "final_ema"}
    for name, stage in (("model_final", "final"), ("model_final_ema", "final_ema")):
        assert_statistics_are_of_training_images(cfg, name)
        changed = cfg.clone()
        changed.defrost()
        changed.MODEL.WEIGHTS = str(Path(cfg.OUTPUT_DIR) / f"{name}.pth")
        assert evaluate_only(changed) == results[stage]
    last, averaged = weights_of(cfg), weights_of(cfg, "model_final_ema")
    assert not torch.equal(last["camera_statistics.mean"], averaged["camera_statistics.mean"])


def test_labels_and_training_see_nothing_of_it(make):
    """The weights are those of a run without statistics, to the bit."""
    pairs = ("NPLP.EMA", True, "NPLP.ITERATIONS", 2)
    cfgs = [make(treatment, *pairs, treatment=treatment)[0] for treatment in ("none", "mean")]
    for name in ("model_final", "model_final_ema"):
        off, on = (weights_of(cfg, name) for cfg in cfgs)
        assert on.keys() - off.keys() == set(STATE)
        assert all(torch.equal(on[key], off[key]) for key in off)


class Killed(BaseException):
    """What ends a run at once."""


def kill_at(monkeypatch, owner, name, count):
    """Let the ``count``-th call of a function end the run."""
    function, calls = getattr(owner, name), []

    def armed(*args, **kwargs):
        calls.append(1)
        if len(calls) == count:
            raise Killed
        return function(*args, **kwargs)

    monkeypatch.setattr(owner, name, armed)


@pytest.mark.parametrize(
    ("owner", "name", "count"),
    [
        (AdaptationTrainer, "_run_step", 3),
        (adaptation, "measure_camera_statistics", 4),
        (camera_statistics, "statistics_by_camera", 3),
        (AdaptationTrainer, "save_final", 1),
    ],
)
def test_a_killed_run_ends_on_the_same_bits(make, monkeypatch, owner, name, count):
    pairs = ("NPLP.EMA", True, "NPLP.ITERATIONS", 2)
    cfg, results = make("undisturbed", *pairs)
    with monkeypatch.context() as patch:
        kill_at(patch, owner, name, count)
        with pytest.raises(Killed):
            make("killed", *pairs)
    again, resumed = make("killed", *pairs, resume=True)
    assert resumed == results
    for file in ("model_final", "model_final_ema"):
        ours, theirs = weights_of(again, file), weights_of(cfg, file)
        assert ours.keys() == theirs.keys() >= set(STATE)
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_another_treatment_does_not_resume(make):
    make("run", "NPLP.ITERATIONS", 1, "NPLP.STARTUP_ITERATIONS", 1)
    for treatment in ("none", "standardize"):
        with pytest.raises(UserError, match=f"TEST.CAMERAS 'mean' there, '{treatment}' now"):
            make("run", "NPLP.ITERATIONS", 2, treatment=treatment, resume=True)


def test_a_model_that_was_adapted_elsewhere_starts_without_its_cameras(make, source_weights):
    cfg, _ = make("first", "NPLP.ITERATIONS", 0, "DATASETS.NAMES", "SynthPlaza")
    second = Path(cfg.OUTPUT_DIR) / "model_final.pth"
    _, results = make("second", "NPLP.ITERATIONS", 0, "NPLP.SOURCE.WEIGHTS", second)
    _, expected = make("third", "NPLP.ITERATIONS", 0)
    assert results == expected


def test_features_that_are_no_numbers_end_the_run(make, monkeypatch):
    monkeypatch.setattr(
        camera_statistics, "extract_features", lambda _, __, items, ___: torch.full((len(items), 4), np.nan)
    )
    with pytest.raises(
        UserError, match="the target's training images: camera statistics need finite features"
    ):
        make("run", "NPLP.ITERATIONS", 0)


def test_cameras_of_few_images_are_named(make, monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("nplp"), "propagate", True)
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(camera_statistics, "LEAST_FOR_MEAN", 30)
    make("run", "NPLP.ITERATIONS", 0)
    assert (
        "3 cameras, 29 to 38 images each; of too few images, so that the overall mean serves: " in caplog.text
    )


@pytest.fixture(scope="module")
def processes(source_weights, synthetic_root, tmp_path_factory):
    """The folders of what each rank saved: one and two processes without an iteration, two with three."""
    folders = {}
    for name, count, iterations in (("one", 1, 0), ("two", 2, 0), ("trained", 2, 3)):
        folder = folders[name] = tmp_path_factory.mktemp(name)
        options = [*tiny_options(synthetic_root, folder / "run"), "NPLP.SOURCE.WEIGHTS", str(source_weights)]
        options += ["TEST.CAMERAS", "standardize", "NPLP.EMA", "True", "NPLP.ITERATIONS", str(iterations)]
        options += ["NPLP.STEPS_PER_EPOCH", "1"]
        command = [sys.executable, str(SCRIPT), str(count), str(folder), *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return folders


def test_two_processes_measure_what_one_measures(processes):
    one, two = (
        torch.load(processes[name] / "run" / "model_final.pth", weights_only=True)["model"]
        for name in ("one", "two")
    )
    assert one.keys() == two.keys() >= set(STATE)
    for key in one:
        torch.testing.assert_close(one[key], two[key], rtol=1e-4, atol=1e-6)
    results = [
        torch.load(processes[name] / "rank0.pth", weights_only=True)["results"] for name in ("one", "two")
    ]
    assert results[0]["final"] == pytest.approx(results[1]["final"])


def test_every_process_holds_the_same_statistics(processes):
    ranks = [torch.load(processes["trained"] / f"rank{rank}.pth", weights_only=True) for rank in (0, 1)]
    for what in ("buffers", "average"):
        first, second = (rank[what] for rank in ranks)
        held = [key for key in first if key in STATE]
        assert set(held) == set(STATE)
        assert all(torch.equal(first[key], second[key]) for key in held)
