"""The whole of Algorithm 1 at a size of seconds: files, evaluation, resuming, the stock model."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from nplp.engine.adaptation import AdaptationTrainer
from nplp.engine.pipeline import evaluate_only, run
from nplp.engine.setup import base_config, prepare_output
from nplp.engine.supervised import SupervisedTrainer
from nplp.errors import UserError
from nplp.metric_names import METRICS
from resumed_runs import assert_one_history
from tiny import make_tiny_cfg

QUICKSTART = str(Path(__file__).parents[2] / "configs" / "NPLP" / "quickstart.yml")


def run_tiny(cfg, resume=False):
    prepare_output(cfg)
    return run(cfg, base_config(QUICKSTART), resume=resume)


def weights(cfg, name="model_final"):
    return torch.load(Path(cfg.OUTPUT_DIR) / f"{name}.pth", weights_only=True)["model"]


@pytest.fixture(scope="module")
def finished(synthetic_root, tmp_path_factory):
    """An undisturbed run of two epochs an iteration, with the two additions on."""
    cfg = make_tiny_cfg(
        synthetic_root,
        tmp_path_factory.mktemp("finished"),
        *("NPLP.EPOCHS_PER_ITERATION", 2, "NPLP.EMA", True, "NPLP.CAMERA_CENTERING", True),
    )
    return cfg, run_tiny(cfg)


def test_results_hold_every_stage(finished):
    cfg, results = finished
    assert set(results) == {"direct_transfer", "startup", "final", "final_ema"}
    content = json.loads((Path(cfg.OUTPUT_DIR) / "results.json").read_text())
    for stage, metrics in results.items():
        assert content[stage] == metrics
        assert set(metrics) == set(METRICS)
        assert all(0 <= value <= 100 for value in metrics.values())
    assert content["seed"] == 0
    assert {"source", "extraction", "estimation", "training", "evaluation"} <= set(content["seconds"])
    assert content["config"]["MODEL.BACKBONE.DEPTH"] == "18x"


def test_each_iteration_has_a_line(finished):
    cfg, _ = finished
    lines = [json.loads(line) for line in (Path(cfg.OUTPUT_DIR) / "pseudo_labels.jsonl").open()]
    assert [line["iteration"] for line in lines] == [1, 2, 3]
    assert [line["stage"] for line in lines] == ["startup", "startup", "correcting"]
    for line in lines:
        assert {
            "epsilon_e",
            "epsilon_c",
            "clusters",
            "outliers",
            "noisy_clusters",
            "precision",
            "mAP",
        } <= set(line)


def test_the_folder_holds_what_a_run_leaves(finished):
    cfg, _ = finished
    names = {path.name for path in Path(cfg.OUTPUT_DIR).iterdir()}
    assert {
        "config.yaml",
        "metrics.json",
        "model_final.pth",
        "model_final_ema.pth",
        "last_checkpoint",
    } <= names
    assert any(name.startswith("events.out") for name in names)
    assert not any(name.endswith(".part") for name in names)


@pytest.mark.parametrize(("name", "stage"), [("model_final", "final"), ("model_final_ema", "final_ema")])
def test_evaluating_the_saved_model_gives_the_recorded_numbers(finished, name, stage):
    cfg, results = finished
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = str(Path(cfg.OUTPUT_DIR) / f"{name}.pth")
    assert evaluate_only(cfg) == results[stage]


def test_the_final_model_carries_no_classifier_and_no_table(finished):
    cfg, _ = finished
    assert not [key for key in weights(cfg) if "classifier" in key or "table" in key]


class _StopError(Exception):
    pass


@pytest.mark.parametrize("stop_after", [1, 2, 4])
def test_a_stopped_and_resumed_run_equals_the_undisturbed_one(finished, tmp_path, monkeypatch, stop_after):
    cfg, results = finished
    cfg = cfg.clone()
    cfg.defrost()
    source = Path(cfg.OUTPUT_DIR) / "source" / "model_final.pth"
    cfg.NPLP.SOURCE.WEIGHTS, cfg.OUTPUT_DIR = str(source), str(tmp_path)
    save = AdaptationTrainer._save_epoch

    def save_and_stop(trainer):
        save(trainer)
        if trainer.epoch + 1 == stop_after:
            raise _StopError

    with monkeypatch.context() as patch:
        # The toolbox's hook calls the function that the trainer was built with.
        patch.setattr("nplp.engine.trainer.ReidTrainer._save_epoch", save_and_stop)
        with pytest.raises(_StopError):
            run_tiny(cfg)
    assert run_tiny(cfg, resume=True) == results
    for name in ("model_final", "model_final_ema"):
        ours, theirs = (
            weights(cfg, name),
            torch.load(source.parents[1] / f"{name}.pth", weights_only=True)["model"],
        )
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    history = [(tmp_path / "pseudo_labels.jsonl"), source.parents[1] / "pseudo_labels.jsonl"]
    assert history[0].read_text() == history[1].read_text()


def test_a_stopped_pre_training_resumes_too(finished, tmp_path, monkeypatch):
    cfg, results = finished
    cfg = cfg.clone()
    cfg.defrost()
    reference = Path(cfg.OUTPUT_DIR) / "source" / "model_final.pth"
    cfg.OUTPUT_DIR, cfg.NPLP.ITERATIONS = str(tmp_path), 0

    save = SupervisedTrainer._save_epoch

    def save_and_stop(trainer):
        save(trainer)
        raise _StopError

    with monkeypatch.context() as patch:
        patch.setattr("nplp.engine.trainer.ReidTrainer._save_epoch", save_and_stop)
        with pytest.raises(_StopError):
            run_tiny(cfg)
    resumed = run_tiny(cfg, resume=True)
    assert resumed == {"direct_transfer": results["direct_transfer"]}
    ours = torch.load(tmp_path / "source" / "model_final.pth", weights_only=True)["model"]
    theirs = torch.load(reference, weights_only=True)["model"]
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_another_seed_gives_another_model(finished, tmp_path):
    cfg, _ = finished
    cfg = cfg.clone()
    cfg.defrost()
    reference = weights(cfg)
    cfg.NPLP.SOURCE.WEIGHTS = str(Path(cfg.OUTPUT_DIR) / "source" / "model_final.pth")
    cfg.OUTPUT_DIR, cfg.SEED = str(tmp_path), 1
    run_tiny(cfg)
    ours = weights(cfg)
    assert any(not torch.equal(ours[key], reference[key]) for key in reference)


def test_the_toolboxs_own_model_trains_evaluates_and_is_evaluated_again(synthetic_root, tmp_path):
    config_file = "configs/NPLP/synthetic_baseline.yml"
    options = ("MODEL.HEADS.EMBEDDING_DIM", 0, "SOLVER.MAX_EPOCH", 2, "TEST.EVAL_PERIOD", 1)
    cfg = make_tiny_cfg(synthetic_root, tmp_path, *options, config_file=config_file)
    prepare_output(cfg)
    results = run(cfg, cfg, resume=False)
    assert set(results) == {"final"}
    assert evaluate_only(cfg) == results["final"]
    assert np.isfinite(list(results["final"].values())).all()


def test_a_run_begun_again_in_a_folder_takes_the_place_of_the_one_there(synthetic_root, tmp_path):
    for _ in range(2):
        run_tiny(make_tiny_cfg(synthetic_root, tmp_path, "NPLP.ITERATIONS", 0))
    assert_one_history(tmp_path / "source")


def test_source_weights_of_another_model_are_refused(finished, tmp_path):
    cfg, _ = finished
    cfg = cfg.clone()
    cfg.defrost()
    cfg.NPLP.SOURCE.WEIGHTS = str(Path(cfg.OUTPUT_DIR) / "source" / "model_final.pth")
    cfg.OUTPUT_DIR, cfg.MODEL.HEADS.EMBEDDING_DIM = str(tmp_path), 48
    with pytest.raises(UserError, match="does not fit this configuration's model"):
        run_tiny(cfg)
