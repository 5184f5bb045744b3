"""What a run shows and leaves is its own: not that of a shorter run, of other settings or of another one."""

import json
from pathlib import Path

import pytest
import torch

from nplp.engine.pipeline import run
from nplp.errors import UserError
from nplp.report.after_run import write_pages
from tiny import make_tiny_cfg

SHORT = ("NPLP.SOURCE.MAX_EPOCH", 1, "NPLP.STARTUP_ITERATIONS", 1)


class _StopError(Exception):
    pass


@pytest.fixture
def started(synthetic_root, tmp_path, monkeypatch):
    """Return a function that runs in ``tmp_path/name``, and may stop after an epoch of a stage."""

    def start(name, *pairs, resume=False, stop=None, **given):
        cfg = make_tiny_cfg(synthetic_root, tmp_path / name, *SHORT, *pairs, **given)
        with monkeypatch.context() as patch:
            if stop:
                stage, epoch = stop

                def save_and_stop(trainer):
                    trainer.checkpointer.save_epoch(
                        trainer.epoch, iter=trainer.iter, config=trainer.cfg.dump()
                    )
                    if (trainer.stage, trainer.epoch + 1) == (stage, epoch):
                        raise _StopError

                patch.setattr("nplp.engine.trainer.ReidTrainer._save_epoch", save_and_stop)
                with pytest.raises(_StopError):
                    run(cfg, cfg, resume=resume, at_end=write_pages)
            else:
                run(cfg, cfg, resume=resume, at_end=write_pages)
        return tmp_path / name

    return start


def results(folder):
    content = json.loads((folder / "results.json").read_text())
    return {stage: content.get(stage) for stage in ("direct_transfer", "startup", "final")}


def weights(path):
    return torch.load(path, weights_only=True)["model"]


def assert_equal_runs(ours, theirs):
    """Compare labels, results, and the models to the bit."""
    assert (ours / "pseudo_labels.jsonl").read_text() == (theirs / "pseudo_labels.jsonl").read_text()
    assert results(ours) == results(theirs)
    one, two = weights(ours / "model_final.pth"), weights(theirs / "model_final.pth")
    assert all(torch.equal(one[key], two[key]) for key in two)


def test_a_longer_run_that_is_stopped_shows_no_end_and_reaches_that_of_an_undisturbed_one(started):
    folder = started("run", "NPLP.ITERATIONS", 2, "NPLP.REPORT", True)
    first = results(folder)
    model = (folder / "model_final.pth").read_bytes()
    assert first["final"]
    started("run", "NPLP.ITERATIONS", 4, "NPLP.REPORT", True, resume=True, stop=(1, 3))
    assert results(folder) == {**first, "final": None}
    assert not (folder / "model_final.pth").exists()
    assert not (folder / "report.html").exists()
    assert not list((folder / "trace").glob("*_final.npz"))
    assert (folder / "model_iteration_0002.pth").read_bytes() == model
    assert (folder / "report_iteration_0002.html").exists()
    started("run", "NPLP.ITERATIONS", 4, "NPLP.REPORT", True, resume=True)
    assert_equal_runs(folder, started("whole", "NPLP.ITERATIONS", 4))
    assert (folder / "model_iteration_0002.pth").read_bytes() == model
    assert (folder / "report.html").exists()


def test_a_finished_run_that_is_resumed_stays_as_it_is(started):
    folder = started("run", "NPLP.ITERATIONS", 2)
    before, model = results(folder), (folder / "model_final.pth").read_bytes()
    started("run", "NPLP.ITERATIONS", 2, resume=True)
    assert results(folder) == before
    assert (folder / "model_final.pth").read_bytes() == model
    assert not list(folder.glob("model_iteration_*"))


def test_a_source_model_alone_is_evaluated_again_in_its_place(started):
    folder = started("run", "NPLP.ITERATIONS", 0)
    before = results(folder)
    started("run", "NPLP.ITERATIONS", 0, resume=True)
    assert results(folder) == before
    assert not (folder / "earlier_runs").exists()
    started("run", "NPLP.ITERATIONS", 2, resume=True, stop=(1, 1))
    assert not (folder / "model_final.pth").exists()
    assert (folder / "earlier_runs" / "0001" / "model_final.pth").exists()
    assert (folder / "source" / "model_final.pth").exists()


def test_results_without_models_are_not_taken_for_those_of_a_run_begun_again(started):
    folder = started("run", "NPLP.ITERATIONS", 1)
    for path in folder.glob("*.pth"):
        path.unlink()
    started("run", "NPLP.ITERATIONS", 1, resume=True, stop=(1, 1))
    assert (folder / "earlier_runs" / "0001" / "results.json").exists()
    assert (folder / "source" / "model_final.pth").exists()


def test_an_end_before_the_last_iteration_is_evaluated_as_the_end(started):
    folder = started("run", "NPLP.ITERATIONS", 4, stop=(1, 2))
    assert results(folder)["final"] is None
    started("run", "NPLP.ITERATIONS", 2, resume=True)
    assert_equal_runs(folder, started("whole", "NPLP.ITERATIONS", 2))


def test_a_longer_startup_stage_has_another_end(started):
    folder = started("run", "NPLP.ITERATIONS", 1)
    assert results(folder)["startup"]
    both = ("NPLP.ITERATIONS", 3, "NPLP.STARTUP_ITERATIONS", 3)
    started("run", *both, resume=True, stop=(1, 2))
    assert results(folder)["startup"] is None
    started("run", *both, resume=True)
    assert_equal_runs(folder, started("whole", *both))


def test_a_startup_stage_that_ends_where_the_run_stands_takes_that_evaluation(started):
    both = ("NPLP.ITERATIONS", 3, "NPLP.STARTUP_ITERATIONS")
    folder = started("run", *both, 3, stop=(1, 2))
    started("run", *both, 2, resume=True)
    assert_equal_runs(folder, started("whole", *both, 2))


def test_a_source_model_trained_further_is_that_of_an_undisturbed_run(started):
    folder = started("run", "NPLP.ITERATIONS", 0)
    before = (folder / "source" / "model_final.pth").read_bytes()
    started("run", "NPLP.ITERATIONS", 0, "NPLP.SOURCE.MAX_EPOCH", 2, resume=True)
    whole = started("whole", "NPLP.ITERATIONS", 0, "NPLP.SOURCE.MAX_EPOCH", 2)
    assert_equal_runs_of_source(folder, whole)
    assert (folder / "source" / "model_epoch_0001.pth").read_bytes() == before
    with pytest.raises(UserError, match=r"NPLP.SOURCE.MAX_EPOCH 2 there, 1 now"):
        started("run", "NPLP.ITERATIONS", 0, resume=True)


def assert_equal_runs_of_source(ours, theirs):
    assert results(ours) == results(theirs)
    one, two = (weights(folder / "source" / "model_final.pth") for folder in (ours, theirs))
    assert all(torch.equal(one[key], two[key]) for key in two)


def test_begun_afresh_with_another_source_stopped_there_and_resumed_gives_nothing_of_the_old_run(started):
    folder = started("run", "NPLP.ITERATIONS", 1)
    another = ("NPLP.ITERATIONS", 1, "NPLP.SOURCE.MAX_EPOCH", 3, "NPLP.SOURCE.BASE_LR", 0.002)
    started("run", *another, stop=(0, 2))
    assert not (folder / "model_final.pth").exists()
    assert not (folder / "results.json").exists()
    started("run", *another, resume=True)
    assert_equal_runs(folder, started("whole", *another))


def test_a_source_model_of_other_settings_is_not_taken_for_the_present_ones(started):
    started("run", "NPLP.ITERATIONS", 0)
    with pytest.raises(UserError, match=r"NPLP.SOURCE.BASE_LR 0.001 there, 0.5 now"):
        started("run", "NPLP.ITERATIONS", 0, "NPLP.SOURCE.BASE_LR", 0.5, resume=True)


def test_the_toolboxs_own_model_trained_further(started):
    given = {"config_file": "configs/NPLP/synthetic_baseline.yml"}
    options = ("MODEL.HEADS.EMBEDDING_DIM", 0, "SOLVER.MAX_EPOCH")
    folder = started("run", *options, 1, **given)
    model = (folder / "model_final.pth").read_bytes()
    started("run", *options, 3, resume=True, stop=(0, 2), **given)
    assert results(folder)["final"] is None
    assert (folder / "model_epoch_0001.pth").read_bytes() == model
    assert not (folder / "model_final.pth").exists()
    started("run", *options, 3, resume=True, **given)
    assert_equal_runs(folder, started("whole", *options, 3, **given))
    assert Path(folder / "config.yaml").is_file()
