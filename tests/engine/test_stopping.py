"""The rule that ends a run whose labels have settled: when, and that the end is that of a shorter run."""

import json
from pathlib import Path

import pytest
import torch

from nplp.config import default_config
from nplp.config.validation import validate_config
from nplp.engine.adaptation import AdaptationTrainer
from nplp.engine.pipeline import run
from nplp.engine.pseudo_labels import PseudoLabelState
from nplp.engine.setup import prepare_output
from nplp.engine.stopping import is_last
from nplp.errors import UserError
from tiny import make_tiny_cfg


@pytest.mark.parametrize(
    ("threshold", "least", "iteration", "agreement", "expected"),
    [
        (0.0, 2, 9, 1.0, False),  # off
        (0.9, 2, 2, 0.9, True),
        (0.9, 2, 2, 0.899, False),
        (0.9, 5, 4, 1.0, False),
        (0.9, 5, 5, 1.0, True),
        (0.9, 1, 1, None, False),  # no labels before, or labels that were kept
    ],
)
def test_the_rule_by_hand(threshold, least, iteration, agreement, expected):
    stop = default_config().NPLP.STOP
    assert not stop.AGREEMENT
    stop.AGREEMENT, stop.MIN_ITERATIONS = threshold, least
    assert is_last(stop, iteration, agreement) is expected


def test_the_planned_end_is_the_last_iteration_whatever_the_labels():
    options = default_config().NPLP
    assert PseudoLabelState(options.ITERATIONS).is_last(options)
    assert not PseudoLabelState(options.ITERATIONS - 1, agreement=1.0).is_last(options)


@pytest.mark.parametrize(("key", "value"), [("AGREEMENT", 1.5), ("AGREEMENT", -0.1), ("MIN_ITERATIONS", 0)])
def test_values_out_of_range_are_named(tiny_cfg, key, value):
    tiny_cfg.defrost()
    tiny_cfg.NPLP.STOP[key] = value
    with pytest.raises(UserError, match=rf"NPLP\.STOP\.{key} must be .* got {value}"):
        validate_config(tiny_cfg)


@pytest.fixture
def train(source_weights, synthetic_root, tmp_path):
    def start(name, *pairs, resume=False):
        given = ("NPLP.SOURCE.WEIGHTS", source_weights, "NPLP.EMA", True, "NPLP.STARTUP_ITERATIONS", 1)
        cfg = make_tiny_cfg(synthetic_root, tmp_path / name, *given, *pairs)
        prepare_output(cfg)
        run(cfg, cfg, resume=resume)
        return Path(cfg.OUTPUT_DIR)

    return start


def weights(folder, name="model_final"):
    return torch.load(folder / f"{name}.pth", weights_only=True)["model"]


def assert_same(ours, theirs):
    for name in ("model_final", "model_final_ema"):
        mine, other = weights(ours, name), weights(theirs, name)
        assert all(torch.equal(mine[key], other[key]) for key in other)
    results = [json.loads((folder / "results.json").read_text()) for folder in (ours, theirs)]
    for stage in ("direct_transfer", "startup", "final", "final_ema"):
        assert results[0][stage] == results[1][stage]
    assert (ours / "pseudo_labels.jsonl").read_text() == (theirs / "pseudo_labels.jsonl").read_text()


def test_a_stopped_run_ends_as_a_shorter_one_and_goes_on_when_asked_to(train):
    # The labels of a tiny run agree by far more than this.
    rule = ("NPLP.STOP.AGREEMENT", 0.05, "NPLP.STOP.MIN_ITERATIONS", 2)
    stopped = train("stopped", *rule)
    assert_same(stopped, train("short", "NPLP.ITERATIONS", 2))
    results = json.loads((stopped / "results.json").read_text())
    lines = [json.loads(line) for line in (stopped / "pseudo_labels.jsonl").open()]
    agreement = lines[1]["label_agreement"]
    assert results["stopped"] == {"iteration": 2, "planned": 3, "agreement": agreement}
    assert "label_agreement" not in lines[0]

    before = weights(stopped)
    train("stopped", *rule, "NPLP.ITERATIONS", 5, resume=True)
    assert len((stopped / "pseudo_labels.jsonl").read_text().splitlines()) == 2
    assert all(torch.equal(before[key], value) for key, value in weights(stopped).items())
    with pytest.raises(UserError, match=r"SOLVER\.BASE_LR .* has ended by NPLP\.STOP"):
        train("stopped", *rule, "SOLVER.BASE_LR", 1e-5, resume=True)

    train("stopped", resume=True)
    assert_same(stopped, train("whole"))
    assert "stopped" not in json.loads((stopped / "results.json").read_text())
    # The model of the old end has another name.
    kept = weights(stopped, "model_iteration_0002")
    assert all(torch.equal(before[key], value) for key, value in kept.items())


def test_a_rule_that_is_given_on_resume_makes_the_last_iteration_the_end(train, monkeypatch):
    begin = AdaptationTrainer.before_epoch

    def fail_at_third(trainer):
        if trainer.epoch == 2:
            raise RuntimeError("killed")
        begin(trainer)

    monkeypatch.setattr(AdaptationTrainer, "before_epoch", fail_at_third)
    with pytest.raises(RuntimeError, match="killed"):
        train("stopped")
    monkeypatch.undo()
    stopped = train("stopped", "NPLP.STOP.AGREEMENT", 0.05, resume=True)
    assert_same(stopped, train("short", "NPLP.ITERATIONS", 2))
    assert json.loads((stopped / "results.json").read_text())["stopped"]["iteration"] == 2
