"""A run with all recommended additions together, and labels made by the averaged weights."""

import copy
from pathlib import Path

import pytest
import torch

from nplp.engine import pseudo_labels
from nplp.engine.adaptation import AdaptationTrainer
from nplp.engine.pipeline import run
from nplp.engine.setup import prepare_output
from nplp.errors import UserError
from tiny import make_tiny_cfg

PLUS = Path(__file__).parents[2] / "configs" / "NPLP" / "ablations" / "plus.yml"


@pytest.fixture
def make(synthetic_root, source_weights, tmp_path):
    """A function that runs a tiny adaptation into a folder and returns its results."""

    def start(name, *pairs, plus=True, resume=False):
        pairs = (
            "NPLP.SOURCE.WEIGHTS",
            source_weights,
            "NPLP.STEPS_PER_EPOCH",
            2,
            "NPLP.ITERATIONS",
            2,
            *pairs,
        )
        cfg = make_tiny_cfg(synthetic_root, tmp_path / name, *pairs)
        if plus:
            cfg.defrost()
            cfg.merge_from_file(str(PLUS))
            cfg.freeze()
        prepare_output(cfg)
        return run(cfg, cfg, resume=resume)

    return start


def weights_of(folder, name):
    return torch.load(folder / f"{name}.pth", weights_only=True)["model"]


class Killed(BaseException):
    """What ends a run at once."""


def test_a_killed_run_ends_on_the_same_bits(make, monkeypatch, tmp_path):
    results = make("undisturbed")
    step, calls = AdaptationTrainer._run_step, []

    def armed(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise Killed
        return step(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(AdaptationTrainer, "_run_step", armed)
        with pytest.raises(Killed):
            make("killed")
    assert make("killed", resume=True) == results
    for name in ("model_final", "model_final_ema"):
        ours, theirs = (weights_of(tmp_path / folder, name) for folder in ("killed", "undisturbed"))
        assert ours.keys() == theirs.keys()
        assert {"camera_statistics.mean", "camera_norms.mean"} & ours.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_labels_are_of_the_averaged_weights_where_they_teach(make, monkeypatch):
    """What the model is when its features are extracted, beside what the average and the last weights are."""
    seen, extract, begin = [], pseudo_labels.extract_features, pseudo_labels.PseudoLabelHook._begin_iteration
    last = []

    def noted(cfg, model, *args, **kwargs):
        seen.append(copy.deepcopy(model.state_dict()))
        return extract(cfg, model, *args, **kwargs)

    def noting(self, iteration):
        average = self.trainer.average
        last.append(copy.deepcopy((self._model.state_dict(), average.weights())))
        begin(self, iteration)
        after = self._model.state_dict()
        assert all(torch.equal(after[key], last[-1][0][key]) for key in after), "the last weights train on"

    monkeypatch.setattr(pseudo_labels, "extract_features", noted)
    monkeypatch.setattr(pseudo_labels.PseudoLabelHook, "_begin_iteration", noting)
    for teaches, place in ((True, 1), (False, 0)):
        seen.clear()
        last.clear()
        make(f"teacher_{teaches}", "NPLP.EMA", True, "NPLP.EMA_LABELS", teaches, plus=False)
        weights, expected = seen[1], last[1][place]
        assert all(torch.equal(weights[key], expected[key]) for key in weights)
        other = last[1][1 - place]
        assert not all(torch.equal(weights[key], other[key]) for key in weights)


def test_without_an_average_none_can_teach(make):
    with pytest.raises(UserError, match="NPLP.EMA_LABELS must be False where NPLP.EMA is, got True"):
        make("none", "NPLP.EMA_LABELS", True, plus=False)
