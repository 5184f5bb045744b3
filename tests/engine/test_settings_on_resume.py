"""A setting that is changed with --resume is applied, or refused by its name; nothing else is possible."""

import argparse
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from nplp.data.datasets import load_test_sets, load_training_items
from nplp.engine import resuming
from nplp.engine.adaptation import AdaptationTrainer
from nplp.engine.pipeline import _without_pretraining, run
from nplp.engine.resuming import END, LABELLING, RATES, TRAINING, WITHOUT_A_WORD, check_same_run
from nplp.engine.setup import load_config
from nplp.errors import UserError
from nplp_experiments import running
from nplp_experiments.catalogue import DOMAINS, EXPERIMENTS
from nplp_experiments.plan import plan
from tiny import make_tiny_cfg

# An optimiser and a schedule in which every rate can be seen.
SEEN = (
    *("SOLVER.OPT", "SGD", "SOLVER.STEPS", "[1, 9]", "SOLVER.GAMMA", 0.5, "SOLVER.BASE_LR", 0.001),
    *("NPLP.SOURCE.MAX_EPOCH", 1, "NPLP.ITERATIONS", 2, "NPLP.STARTUP_ITERATIONS", 1, "NPLP.EVAL_PERIOD", 0),
    *("NPLP.EMA", True, "NPLP.SOURCE.OPT", "SGD"),
)


def other(value):
    """Return another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return value + "x" if isinstance(value, str) else [*(value or []), "x"]


def leaves(node, prefix=""):
    for key, value in node.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def test_every_key_is_on_a_list_or_refused_by_its_name(tiny_cfg, caplog):
    now = yaml.safe_load(tiny_cfg.dump())
    keys = dict(leaves(now))
    allowed = {*WITHOUT_A_WORD, *END, *TRAINING, *LABELLING}
    assert allowed <= keys.keys()
    assert set(RATES) <= set(TRAINING)
    known = resuming.flat(now)

    def changed(names):
        return yaml.safe_dump(nested({**known, **{name: other(keys[name]) for name in names}}))

    assert check_same_run(tiny_cfg, changed(allowed), "x.pth").keys() == allowed.difference(WITHOUT_A_WORD)
    with pytest.raises(UserError) as refused:
        check_same_run(tiny_cfg, changed(keys), "x.pth")
    named = re.findall(r"(?:[(]|; )([A-Z][A-Z0-9_.]+) (?=[^;]* there, )", str(refused.value))
    assert sorted(named) == sorted(keys.keys() - allowed)


def nested(flat):
    node = {}
    for key, value in flat.items():
        *sections, name = key.split(".")
        place = node
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return node


def test_a_key_that_is_newer_than_the_checkpoint_had_its_default(tiny_cfg):
    then = yaml.safe_load(tiny_cfg.dump())
    del then["NPLP"]["RULES"], then["NPLP"]["EMA_DECAY"], then["NPLP"]["EMA"]
    assert check_same_run(tiny_cfg, yaml.safe_dump(then), "x.pth") == {}


@pytest.fixture(scope="module")
def finished(synthetic_root, tmp_path_factory):
    """A finished run of two iterations and the data it is resumed with."""
    cfg = make_tiny_cfg(synthetic_root, tmp_path_factory.mktemp("finished"), *SEEN)
    run(cfg, cfg, resume=False)
    return cfg


@pytest.fixture
def resumed(finished, synthetic_root):
    """Return a function that loads the finished run with other settings, to go on to a third iteration."""

    def resume(*pairs):
        given = (*SEEN, "NPLP.ITERATIONS", 3, *pairs)
        cfg = make_tiny_cfg(synthetic_root, Path(finished.OUTPUT_DIR), *given)
        trainer = AdaptationTrainer(
            _without_pretraining(cfg), load_training_items(cfg), load_test_sets(cfg), cfg
        )
        assert trainer.resume()
        return trainer

    return resume


# A value, what of the optimiser's groups it changes, and what must stand there after two epochs.
RATE_CASES = {
    "SOLVER.BASE_LR": (0.0123, "lr", 0.0123 * 0.5),
    "SOLVER.GAMMA": (0.1, "lr", 0.001 * 0.1),
    "SOLVER.STEPS": ([1, 2], "lr", 0.001 * 0.25),
    "SOLVER.MOMENTUM": (0.125, "momentum", 0.125),
    "SOLVER.NESTEROV": (True, "nesterov", True),
}


@pytest.mark.parametrize("key", RATE_CASES)
def test_the_optimiser_has_the_new_rate_and_the_old_momentum(resumed, key):
    value, name, expected = RATE_CASES[key]
    before, after = resumed(), resumed(key, value)
    old, new = ([group[name] for group in trainer.optimizer.param_groups] for trainer in (before, after))
    changed = [now for then, now in zip(old, new, strict=True) if then != now]
    assert changed
    assert changed == pytest.approx([expected] * len(changed))
    buffers = [list(trainer.optimizer.state.values()) for trainer in (before, after)]
    assert buffers[0]
    for ours, theirs in zip(*buffers, strict=True):
        assert torch.equal(ours["momentum_buffer"], theirs["momentum_buffer"])
    # The schedule goes on from there.
    after.scheduler["lr_sched"].step()
    assert after.scheduler["lr_sched"].last_epoch == 3


def test_all_rates_have_a_case():
    # ETA_MIN_LR belongs to the cosine, which has a test of its own.
    assert {*RATE_CASES, "SOLVER.ETA_MIN_LR"} == set(RATES)


def test_without_changes_the_checkpoints_rates_stay_to_the_bit(resumed, finished):
    trainer = resumed()
    saved = torch.load(trainer.checkpointer.get_checkpoint_file(), weights_only=True)
    assert saved["optimizer"]["param_groups"] == trainer.optimizer.state_dict()["param_groups"]
    assert saved["lr_sched"] == trainer.scheduler["lr_sched"].state_dict()


def test_a_cosine_reaches_to_the_new_end(synthetic_root, tmp_path):
    given = (*SEEN, "SOLVER.SCHED", "CosineAnnealingLR", "NPLP.SOURCE.MAX_EPOCH", 1)
    cfg = make_tiny_cfg(synthetic_root, tmp_path, *given)
    run(cfg, cfg, resume=False)
    cfg = make_tiny_cfg(synthetic_root, tmp_path, *given, "NPLP.ITERATIONS", 4, "SOLVER.ETA_MIN_LR", 0.0001)
    trainer = AdaptationTrainer(_without_pretraining(cfg), load_training_items(cfg), [], cfg)
    assert trainer.resume()
    rates = [group["lr"] for group in trainer.optimizer.param_groups]
    # Half of the way from 0.001 to 0.0001 after two of four epochs.
    assert rates == pytest.approx([0.00055] * len(rates))


def test_losses_average_and_step_are_built_with_the_new_settings(resumed):
    trainer = resumed(
        *("MODEL.LOSSES.TRI.MARGIN", 0.7, "MODEL.LOSSES.TRI.REDUCTION", "sum", "NPLP.EMA_DECAY", 0.5),
        *("MODEL.LOSSES.CC.TEMPERATURE", 0.3, "SOLVER.CLIP_GRADIENTS.ENABLED", True),
    )
    model = trainer.bare_model
    assert (model.criteria["TripletLoss"].margin, model.criteria["TripletLoss"].reduction) == (0.7, "sum")
    assert model.criteria["CenterContrastiveLoss"].temperature == 0.3
    assert trainer.average.decay == 0.5
    assert type(trainer.optimizer).__name__ == "SGDWithGradientClip"


LABELS = {
    "NPLP.ALPHA": (0.05, "alpha"),
    "NPLP.BETA": (0.25, "beta"),
    "NPLP.NOISY_FRACTION": (0.3, "noisy_fraction"),
    "NPLP.MIN_SAMPLES": (3, "min_samples"),
    "NPLP.K1": (9, "k1"),
    "NPLP.K2": (3, "k2"),
    "NPLP.NOISY": ("drop", "noisy"),
    "NPLP.DISSOLVED": ("keep", "dissolved"),
    "NPLP.RECLUSTERED_OUTLIERS": ("rejoin", "reclustered_outliers"),
    "NPLP.ASSESSMENT_DISTANCE": ("euclidean", "assessment_distance"),
    "NPLP.CORRECTION_DISTANCE": ("euclidean", "correction_distance"),
    "NPLP.RULES.GIANT_SHARE": (0.9, "giant_share"),
    "NPLP.RULES.EQUAL_SCORES": ("order", "equal_scores"),
}


def test_the_next_iteration_is_labelled_with_the_new_settings(resumed, monkeypatch):
    pairs = [word for key, (value, _) in LABELS.items() for word in (key, value)]
    trainer = resumed(*pairs, "NPLP.RULES.GIANT_CLUSTER", "lower", "NPLP.RULES.SMALL_CLUSTERS", "drop")
    seen = {}
    monkeypatch.setattr("nplp.methods.nplp.estimate_pseudo_labels", lambda *_, **given: seen.update(given))
    trainer.pseudo_labels._method.label(3, torch.zeros(4, 2), None)
    assert {name: seen[name] for _, name in LABELS.values()} == {
        name: value for value, name in LABELS.values()
    }
    # The hook chooses the network's weights (test_recommended.py), the clusters' (test_pseudo_label_hook.py)
    # and the constraints (test_tracks.py).
    elsewhere = {"NPLP.EMA_LABELS", "NPLP.SCORE_SAMPLING", "NPLP.SCORE_WEIGHT", "NPLP.TRACKS"}
    assert {key for key in LABELLING if not key.startswith("NPLP.RULES.")} - elsewhere <= LABELS.keys()
    assert trainer.pseudo_labels._cfg.NPLP.RULES.SMALL_CLUSTERS == "drop"


def test_alpha_is_refused_where_epsilon_is_that_of_the_first_iteration(synthetic_root, tmp_path):
    given = (*SEEN, "NPLP.EPSILON_UPDATE", "first", "NPLP.ITERATIONS")
    cfg = make_tiny_cfg(synthetic_root, tmp_path, *given, 1)
    run(cfg, cfg, resume=False)
    cfg = make_tiny_cfg(synthetic_root, tmp_path, *given, 2, "NPLP.ALPHA", 0.2)
    with pytest.raises(UserError, match="NPLP.ALPHA 0.08 there, 0.2 now: that would change nothing"):
        run(cfg, cfg, resume=True)


def test_a_resumed_run_trains_at_the_new_rate(finished, synthetic_root, tmp_path):
    shutil.copytree(finished.OUTPUT_DIR, tmp_path / "run")
    given = (*SEEN, "NPLP.ITERATIONS", 3, "SOLVER.BASE_LR", 0.0123)
    cfg = make_tiny_cfg(synthetic_root, tmp_path / "run", *given)
    run(cfg, cfg, resume=True)
    rates = [json.loads(line).get("lr") for line in (tmp_path / "run" / "metrics.json").open()]
    assert rates[-1] == pytest.approx(0.0123 * 0.5)
    assert next(rate for rate in rates if rate) == pytest.approx(0.001)
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["SOLVER"]["BASE_LR"] == 0.0123


def test_no_branch_of_an_experiment_is_refused():
    branches, saved = 0, {}
    for domain in DOMAINS.values():
        runs, _ = plan(domain, list(EXPERIMENTS.values()), [0])
        by_key = {one.key: one for one in runs}
        for one in runs:
            if not one.branch:
                continue
            branches += 1
            if one.branch not in saved:
                saved[one.branch] = config_of(by_key[one.branch]).dump()
            changed = check_same_run(config_of(one), saved[one.branch], "x.pth")
            assert not changed.keys() & {*RATES}
    assert branches > 10


def config_of(one):
    options = [word for pair in one.options for word in pair]
    overlays = [str(running.configurations_root() / overlay) for overlay in one.overlays]
    path = str(running.configurations_root() / one.config)
    return load_config(argparse.Namespace(config_file=path, overlay=overlays, opts=options))
