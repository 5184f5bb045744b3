"""Degenerate clusterings through training: what is done, what is logged, what is recorded, how to stop."""

import json
import logging
import os
import signal

import numpy as np
import pytest
import torch

from nplp.engine import pseudo_labels as hook_module
from nplp.engine.checkpoint import AtomicCheckpointer
from nplp.engine.interruption import stopped_by_signals
from nplp.engine.pipeline import run
from nplp.engine.rules import measure_scale, without_small_clusters
from nplp.engine.setup import prepare_output
from nplp.errors import UserError
from nplp.methods import DistanceSettings
from tiny import make_tiny_cfg

IMAGES, WIDTH = 96, 32
ACTING = {"NPLP.RULES.GIANT_CLUSTER": "lower", "NPLP.RULES.EQUAL_SCORES": "skip"}
"""The recommended values; the defaults leave the labels as the paper's equations give them."""
QUICK = {
    **ACTING,
    "NPLP.ITERATIONS": 2,
    "NPLP.STARTUP_ITERATIONS": 2,
    "NPLP.STEPS_PER_EPOCH": 2,
    "NPLP.EVAL_PERIOD": 0,
    "NPLP.DISTANCE": "euclidean",
    "NPLP.ALPHA": 0.09,
    "NPLP.NORMALIZE": False,
}


def people(count, images=IMAGES, spread=0.02, seed=0):
    """Features of people far apart; images beyond a whole number for each go to the first ones."""
    rng = np.random.default_rng(seed)
    centres = np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0][:count]
    return centres[np.arange(images) % count] + spread * rng.normal(size=(images, WIDTH))


def scattered(images=IMAGES, seed=1):
    """Features without any neighbours."""
    return 10 * np.random.default_rng(seed).normal(size=(images, WIDTH))


def chained():
    """Six people, and half of all images on a chain whose links are as long as a person is wide."""
    chain = np.zeros((IMAGES // 2, WIDTH))
    chain[:, 0] = 5 + np.random.default_rng(2).uniform(0, 3, size=len(chain))
    return np.concatenate([people(6, IMAGES - len(chain), spread=0.001), chain])


GOOD = people(12)
# What each iteration's features are, the options, the rule, its action, what the log says, and the value of
# the rule's key that ends the run or makes it literal again.
CASES = {
    "no cluster": (
        [GOOD, scattered()],
        {"NPLP.EPSILON_UPDATE": "first"},
        "no_cluster",
        "keep",
        "teach nothing (raise NPLP.ALPHA or lower NPLP.MIN_SAMPLES for more)",
        "stop",
    ),
    "giant cluster": ([chained()], {"NPLP.ALPHA": 0.2}, "giant_cluster", "lowered", "lowered to", "stop"),
    "giant of duplicates": (
        [np.concatenate([people(6, 48), np.ones((48, WIDTH))])],
        {"NPLP.ALPHA": 0.35},
        "giant_cluster",
        "dropped",
        "left out",
        "stop",
    ),
    "many outliers": (
        [np.concatenate([people(4, 32), scattered(64)])],
        {},
        "many_outliers",
        "report",
        "67% of the images are outliers",
        "stop",
    ),
    "growing features": ([GOOD, 20 * GOOD], {}, "explosion", "report", "have grown", "stop"),
    "large logits": (
        [100 * GOOD],
        {"MODEL.LOSSES.CC.NORMALIZE": False},
        "explosion",
        "report",
        "largest logit",
        "stop",
    ),
    "fewer clusters than P": (
        [people(3)],
        {"NPLP.RULES.GIANT_CLUSTER": "off"},
        "few_clusters",
        "repeat",
        "3 clusters, fewer than the 4 of a batch",
        "stop",
    ),
    "epsilon 0": ([people(12, spread=0)], {"NPLP.ALPHA": 0.05}, "epsilon", "report", "epsilon is 0", "stop"),
    "enormous epsilon": ([GOOD], {"NPLP.ALPHA": 1.0}, "epsilon", "report", "nothing in common", "stop"),
    "ten times fewer clusters": (
        [people(24), people(2)],
        {"NPLP.RULES.GIANT_CLUSTER": "off"},
        "size_change",
        "report",
        "2 clusters, 24 in the iteration before",
        "stop",
    ),
}


@pytest.fixture
def adapt(source_weights, synthetic_root, tmp_path, monkeypatch):
    """Return a function that adapts with planted features and returns the lines of the history."""

    def start(features, options, resume=False):
        given = {**QUICK, "NPLP.SOURCE.WEIGHTS": source_weights, **options}
        cfg = make_tiny_cfg(synthetic_root, tmp_path, *(word for pair in given.items() for word in pair))
        shown = [torch.from_numpy(np.asarray(value, dtype=np.float32)) for value in features]

        def extract(*args, **_):
            iteration = int(args[-1].split()[-1])
            return shown[min(iteration, len(shown)) - 1]

        monkeypatch.setattr(hook_module, "extract_features", extract)
        prepare_output(cfg)
        run(cfg, cfg, resume=resume)
        lines = (tmp_path / "pseudo_labels.jsonl").read_text().splitlines()
        assert (tmp_path / "model_final.pth").exists()
        return [json.loads(line) for line in lines]

    logging.getLogger("nplp").propagate = True
    return start


def entries(lines, rule):
    return [entry for line in lines for entry in line["rules"] if entry["rule"] == rule]


@pytest.mark.parametrize("case", CASES)
def test_training_goes_on_and_says_what_was_done(adapt, caplog, case):
    features, options, rule, action, said, _ = CASES[case]
    with caplog.at_level(logging.INFO):
        lines = adapt(features, options)
    assert [line["iteration"] for line in lines] == [1, 2]
    found = entries(lines, rule)
    assert found
    assert found[-1]["action"] == action
    assert said in found[-1]["text"]
    assert any(said in record.message and record.levelno == logging.WARNING for record in caplog.records)


@pytest.mark.parametrize("case", CASES)
def test_each_rule_can_end_the_run_instead(adapt, tmp_path, case):
    features, options, rule, _, _, stop = CASES[case]
    with pytest.raises(UserError, match=f"NPLP.RULES.{rule.upper()} stops the run") as caught:
        adapt(features, {**options, f"NPLP.RULES.{rule.upper()}": stop})
    assert "\n" not in str(caught.value)
    if len(features) == 2:
        saved = AtomicCheckpointer(torch.nn.Identity(), str(tmp_path)).get_checkpoint_file()
        assert torch.load(saved, weights_only=True)["epoch"] == 1


def test_sound_clusters_trip_no_rule(adapt):
    lines = adapt([GOOD], {})
    assert [line["rules"] for line in lines] == [[], []]
    assert [line["clusters"] for line in lines] == [12, 12]


def test_labels_that_are_kept_are_those_of_the_iteration_before(adapt, tmp_path):
    adapt([GOOD], {"NPLP.EPSILON_UPDATE": "first", "NPLP.ITERATIONS": 1, "NPLP.STARTUP_ITERATIONS": 1})
    before = saved_labels(tmp_path)
    adapt([GOOD, scattered()], {"NPLP.EPSILON_UPDATE": "first"}, resume=True)
    assert before.max() > 1
    assert torch.equal(saved_labels(tmp_path), before)


DESCRIBED = (
    *("epsilon_e", "epsilon_c", "clusters", "outliers", "largest_cluster_share", "precision", "nmi"),
    *("camera_entropy", "cross_camera_pairs"),
)


def test_where_labels_are_kept_line_log_and_trace_describe_them_and_not_the_rejected_ones(
    adapt, tmp_path, caplog
):
    """The third iteration follows an iteration that kept its labels too."""
    options = {"NPLP.EPSILON_UPDATE": "first", "NPLP.ITERATIONS": 3, "NPLP.REPORT": True}
    # Labels that are kept agree with themselves, which says nothing: the run must not stop.
    options["NPLP.STOP.AGREEMENT"] = 0.5
    with caplog.at_level(logging.INFO):
        lines = adapt([GOOD, scattered(), scattered(seed=5)], options)
    for line in lines[1:]:
        assert {key: line[key] for key in DESCRIBED} == {key: lines[0][key] for key in DESCRIBED}
        assert line["labels_of_iteration"] == 1
        assert "label_agreement" not in line
        assert [entry["rule"] for entry in line["rules"]] == ["explosion", "no_cluster"]
        assert "the labels of the iteration before are trained on once more" in line["rules"][-1]["text"]
        assert (line["rejected"]["clusters"], line["rejected"]["outliers"]) == (0, IMAGES)
        assert "many_outliers" in [entry["rule"] for entry in line["rejected"]["rules"]]
    assert "rejected" not in lines[0]
    assert "Iteration 2 of 3, startup stage, with the labels of iteration 1\n" in caplog.text
    assert "rejected labels, many outliers: 100% of the images are outliers" in caplog.text
    first, *others = (np.load(tmp_path / "trace" / f"iteration_{number:04d}.npz") for number in (1, 2, 3))
    assert "rejected_labels" not in first.files
    for arrays in others:
        for key in ("labels", "startup_labels", "epsilon"):
            np.testing.assert_array_equal(arrays[key], first[key])
        assert len(arrays["self_assessment"]) == len(arrays["noisy_clusters"]) == 0
        assert (arrays["rejected_labels"] == -1).all()


def saved_labels(folder):
    path = AtomicCheckpointer(torch.nn.Identity(), str(folder)).get_checkpoint_file()
    return torch.load(path, weights_only=True)["pseudo_labels"]["labels"]


def test_a_giant_cluster_can_be_trained_on_as_it_is(adapt):
    lines = adapt([chained()], {"NPLP.ALPHA": 0.2, "NPLP.RULES.GIANT_CLUSTER": "off"})
    assert lines[0]["largest_cluster_share"] > 0.4
    (entry, _) = entries(lines, "giant_cluster")
    assert entry["action"] == "off"
    lowered = adapt([chained()], {"NPLP.ALPHA": 0.2, "NPLP.RULES.GIANT_CLUSTER": "lower"})
    assert lowered[0]["largest_cluster_share"] < 0.3
    assert lowered[0]["epsilon_e"] < lines[0]["epsilon_e"] == entry["literal_epsilon"]


def test_equal_scores_skip_the_correction(adapt, caplog):
    options = {"NPLP.STARTUP_ITERATIONS": 1, "NPLP.NOISY_FRACTION": 0.5}
    with caplog.at_level(logging.WARNING):
        lines = adapt([people(12, spread=0)], options)
    assert [line["noisy_clusters"] for line in lines] == [0, 0]
    assert entries(lines, "equal_scores")[0]["action"] == "skip"
    assert "same self-assessment score" in caplog.text
    lines = adapt([people(12, spread=0)], {**options, "NPLP.RULES.EQUAL_SCORES": "order"})
    assert [line["noisy_clusters"] for line in lines] == [0, 6]
    assert entries(lines, "equal_scores")[0]["action"] == "order"


@pytest.mark.parametrize(("dissolved", "clusters"), [("drop", 11), ("keep", 12)])
def test_a_dissolved_cluster_is_dropped_or_kept(adapt, caplog, dissolved, clusters):
    options = {"NPLP.STARTUP_ITERATIONS": 1, "NPLP.BETA": 0.01, "NPLP.DISSOLVED": dissolved}
    with caplog.at_level(logging.INFO):
        lines = adapt([GOOD], options)
    assert [line["clusters"] for line in lines] == [12, clusters]
    (entry,) = entries(lines, "dissolved")
    assert (entry["action"], entry["clusters"]) == (dissolved, 1)
    assert "1 of 1 noisy clusters dissolve" in caplog.text


@pytest.mark.parametrize(("action", "clusters"), [("repeat", 15), ("drop", 4)])
def test_clusters_of_fewer_images_than_k_repeat_them_or_are_dropped(adapt, caplog, action, clusters):
    sizes = np.concatenate([people(4, 60), people(16, 36)[np.arange(36) % 16 >= 4]])
    sizes = np.concatenate([sizes, scattered(IMAGES - len(sizes))])
    options = {"NPLP.MIN_SAMPLES": 2, "NPLP.RULES.SMALL_CLUSTERS": action}
    with caplog.at_level(logging.INFO):
        lines = adapt([sizes], options)
    assert lines[0]["clusters"] == clusters
    entry = entries(lines, "small_clusters")[0]
    assert (entry["action"], entry["clusters"]) == (action, 11)
    assert "11 clusters have fewer than 4 images" in caplog.text


def test_without_small_clusters_numbers_the_others_anew():
    labels = np.array([0, 0, 1, -1, 2, 2, 2, 1, 1])
    assert without_small_clusters(labels, 3).tolist() == [-1, -1, 0, -1, 1, 1, 1, 0, 0]
    assert without_small_clusters(labels, 4).tolist() == [-1] * 9
    assert without_small_clusters(np.full(3, -1), 2).tolist() == [-1] * 3


def test_features_that_are_not_numbers_end_the_run_and_keep_the_last_state(adapt, tmp_path):
    broken = GOOD.copy()
    broken[5, 3] = np.inf
    with pytest.raises(UserError, match="iteration 2: the features of 1 of 96 images are infinite or not"):
        adapt([GOOD, broken], {})
    saved = AtomicCheckpointer(torch.nn.Identity(), str(tmp_path)).get_checkpoint_file()
    assert torch.load(saved, weights_only=True)["epoch"] == 1
    assert len(adapt([GOOD], {}, resume=True)) == 2


@pytest.mark.parametrize("signalled", [False, True])
def test_weights_that_are_not_numbers_are_not_saved(adapt, tmp_path, monkeypatch, signalled):
    from nplp.engine.trainer import ReidTrainer

    step = ReidTrainer.run_step

    def breaking(self):
        step(self)
        if self.epoch == 1:
            next(self.bare_model.backbone.parameters()).data[0] = float("nan")
            if signalled:
                os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(ReidTrainer, "run_step", breaking)
    broken = r"epoch 2: backbone\.\S+ has become infinite or not a number"
    with stopped_by_signals(), pytest.raises(UserError, match=broken):
        adapt([GOOD], {"NPLP.STEPS_PER_EPOCH": 1, "NPLP.ITERATIONS": 3, "NPLP.STARTUP_ITERATIONS": 3})
    saved = AtomicCheckpointer(torch.nn.Identity(), str(tmp_path)).get_checkpoint_file()
    assert torch.load(saved, weights_only=True)["epoch"] == 1


@pytest.mark.parametrize(("after_neck", "first"), [(False, 1.0), (True, WIDTH**0.5)])
def test_what_a_new_neck_gives_at_first_is_no_measure_of_growth(after_neck, first):
    features = torch.nn.functional.normalize(torch.from_numpy(scattered()), dim=1)
    scale = measure_scale(DistanceSettings(), features, 0.0, 0.0, after_neck)
    assert scale.norm == pytest.approx(1.0)
    assert scale.first_norm == pytest.approx(first)
    assert measure_scale(DistanceSettings(), features, 3.0, 0.0, after_neck).first_norm == 3.0
