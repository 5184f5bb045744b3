"""CAP and O2CAP as methods: what they begin with, when they contrast cameras, and what they say."""

import argparse
import logging
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nplp.config.keys import source_config
from nplp.config.method_sections import METHOD_SECTIONS
from nplp.engine.setup import load_config
from nplp.engine.trainer import ReidTrainer
from nplp.errors import UserError
from nplp.methods import build_method
from nplp.methods.cap import CameraAwareProxies
from nplp.methods.o2cap import AssociatedProxies
from tiny import QUICKSTART, tiny_options

ROOT = Path(__file__).parents[2]
CLASSES = {"cap": CameraAwareProxies, "o2cap": AssociatedProxies}
IMAGES, WIDTH = 48, 64
CAMERAS = np.arange(IMAGES) % 3
LABELS = np.where(np.arange(IMAGES) % 8 == 7, -1, np.arange(IMAGES) // 8)


def overlaid(name, synthetic_root, output, *pairs):
    """Return quickstart with a method's overlay over it, at a size of seconds."""
    options = [*tiny_options(synthetic_root, output), *map(str, pairs)]
    overlay = [str(ROOT / f"configs/methods/overlays/{name}.yml")]
    return load_config(argparse.Namespace(config_file=str(ROOT / QUICKSTART), overlay=overlay, opts=options))


def built(cfg):
    model = ReidTrainer.build_model(cfg)
    return build_method(cfg, model), model.criteria["CameraProxyLoss"]


def planted(people=6, images=8):
    rng = np.random.default_rng(0)
    points = np.eye(WIDTH)[np.repeat(np.arange(people), images)]
    points = points + 0.05 * rng.normal(size=points.shape)
    # Lengths differ: only directions may count.
    return torch.from_numpy((points * rng.uniform(0.5, 2, size=(len(points), 1))).astype(np.float32))


@pytest.mark.parametrize("name", CLASSES)
def test_a_method_clusters_and_begins_with_the_means_of_clusters_in_cameras(name, synthetic_root, tmp_path):
    method, loss = built(overlaid(name, synthetic_root, tmp_path))
    features = planted()
    labelling = method.label(1, features, CAMERAS)
    assert labelling.estimate.epsilon_e == 0.5
    assert labelling.radius_key == f"NPLP.{name.upper()}.EPSILON"
    np.testing.assert_array_equal(labelling.estimate.labels, np.repeat(np.arange(6), 8))
    method.begin_iteration(features, LABELS, CAMERAS)
    unit = F.normalize(features)
    means = [
        unit[torch.from_numpy((cluster == LABELS) & (camera == CAMERAS))].mean(0)
        for cluster in range(6)
        for camera in range(3)
    ]
    torch.testing.assert_close(loss.table, F.normalize(torch.stack(means)))


@pytest.mark.parametrize(
    ("epochs", "after", "expected"),
    [
        (1, 5, [False] * 5 + [True] * 3),
        (3, 5, [False, False, True, True]),
        (3, 3, [False, True]),
        (3, 0, [True]),
    ],
)
def test_cap_contrasts_cameras_after_so_many_epochs(epochs, after, expected, synthetic_root, tmp_path):
    pairs = ("NPLP.EPOCHS_PER_ITERATION", epochs, "NPLP.CAP.CONTRAST_AFTER", after, "NPLP.ITERATIONS", 9)
    method, loss = built(overlaid("cap", synthetic_root, tmp_path, *pairs))
    for iteration, across in enumerate(expected, 1):
        method.label(iteration, planted(), CAMERAS)
        assert loss.across is across
        # Other processes, and a resumed run, have the state alone.
        state = method.state_dict()
        loss.across = not across
        method.load_state_dict(state)
        assert loss.across is across


def test_o2cap_contrasts_cameras_from_the_beginning(synthetic_root, tmp_path):
    method, loss = built(overlaid("o2cap", synthetic_root, tmp_path))
    method.label(1, planted(), CAMERAS)
    assert loss.across


@pytest.mark.parametrize("name", CLASSES)
def test_a_state_brings_iteration_and_proxies_back_to_the_bit(name, synthetic_root, tmp_path):
    method, loss = built(overlaid(name, synthetic_root, tmp_path))
    method.load_state_dict(method.state_dict())
    method.label(7, planted(), CAMERAS)
    method.begin_iteration(planted(), LABELS, CAMERAS)
    state, expected = method.state_dict(), loss.proxies()
    loss.begin(planted().flip(0), torch.from_numpy(LABELS), torch.from_numpy(CAMERAS))
    method.load_state_dict(state)
    assert all(torch.equal(value, expected[key]) for key, value in loss.proxies().items())
    assert method.state_dict()["iteration"] == 7


def of_methods(caplog):
    """Return what methods said; others speak too where their loggers are heard."""
    return [record.getMessage() for record in caplog.records if record.name.startswith("nplp.methods")]


@pytest.mark.parametrize("name", CLASSES)
def test_the_overlay_and_the_whole_recipe_are_the_authors(name, synthetic_root, tmp_path, caplog):
    cfg = overlaid(name, synthetic_root, tmp_path, "NPLP.ITERATIONS", 8)
    with caplog.at_level(logging.WARNING, "nplp"):
        built(cfg)
    assert not of_methods(caplog)
    whole = load_config(argparse.Namespace(config_file=str(ROOT / f"configs/methods/{name}.yml"), opts=[]))
    for key in (
        "LOSSES.PROXY",
        "LOSSES.NAME",
        "HEADS.PAP",
        "HEADS.OUTPUT",
        "HEADS.FUSION",
        "HEADS.NECK_BIAS",
    ):
        section, _, option = key.rpartition(".")
        values = [part.MODEL[section][option] for part in (cfg, whole)]
        assert list(values[0]) == list(values[1]) if option == "NAME" else values[0] == values[1], key
    for key in METHOD_SECTIONS[name].options:
        if key != "CONTRAST_AFTER":
            assert cfg.NPLP[name.upper()][key] == whole.NPLP[name.upper()][key]
    assert cfg.DATALOADER.SAMPLER_TRAIN == whole.DATALOADER.SAMPLER_TRAIN == "CameraProxySampler"
    for key, value in CLASSES[name].authors.items():
        assert whole.MODEL.LOSSES.PROXY[key] == value


def test_the_source_is_not_drawn_by_proxies(synthetic_root, tmp_path):
    cfg = overlaid("cap", synthetic_root, tmp_path)
    assert source_config(cfg).DATALOADER.SAMPLER_TRAIN == "NaiveIdentitySampler"


def test_other_losses_than_the_authors_are_named(synthetic_root, tmp_path, caplog):
    pairs = ("MODEL.LOSSES.PROXY.ONLINE_WEIGHT", 0.5, "MODEL.LOSSES.PROXY.REDUCTION", "mean")
    built(overlaid("o2cap", synthetic_root, tmp_path, *pairs))
    (message,) = of_methods(caplog)
    assert "REDUCTION 'mean' ('cameras'), ONLINE_WEIGHT 0.5 (1.0)" in message


def test_a_run_too_short_to_contrast_cameras_says_so(synthetic_root, tmp_path, caplog):
    pairs = ("NPLP.EPOCHS_PER_ITERATION", 2, "NPLP.ITERATIONS", 3, "NPLP.CAP.CONTRAST_AFTER", 5)
    built(overlaid("cap", synthetic_root, tmp_path, *pairs))
    (message,) = of_methods(caplog)
    assert "3 x 2 epochs never contrasts cameras: with 4 or fewer the last iteration does" in message


@pytest.mark.parametrize("name", CLASSES)
def test_one_camera_is_said_once(name, synthetic_root, tmp_path, caplog):
    cfg = overlaid(name, synthetic_root, tmp_path, "NPLP.ITERATIONS", 8)
    method, loss = built(cfg)
    for iteration in (1, 2):
        method.label(iteration, planted(), 0 * CAMERAS)
    (message,) = of_methods(caplog)
    assert message.startswith(f"{name}: all images are of one camera")
    # It trains all the same.
    method.begin_iteration(planted(), LABELS, 0 * CAMERAS)
    inside = torch.from_numpy(LABELS >= 0)
    values = planted()[inside].requires_grad_()
    value = loss(values, torch.from_numpy(LABELS)[inside], torch.zeros(int(inside.sum()), dtype=torch.int64))
    value.backward()
    assert value.isfinite()
    assert values.grad.isfinite().all()


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("EPSILON", 0.0), ("MIN_SAMPLES", 0), ("K1", 0), ("K2", 50), ("DISTANCE", "euclidean")),
        *(("K1_INTRA", 0), ("K1_INTER", 0), ("K2_INTRA", 0), ("K2_INTER", -1), ("CAMERA_SCALING", True)),
    ],
)
def test_options_out_of_range_are_named(name, key, value, synthetic_root, tmp_path):
    cfg = overlaid(name, synthetic_root, tmp_path, f"NPLP.{name.upper()}.{key}", value)
    with pytest.raises(UserError, match=rf"NPLP\.{name.upper()}\.{key} must be .* got {value!r}"):
        build_method(cfg, ReidTrainer.build_model(cfg))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (("NPLP.CAP.CONTRAST_AFTER", -1), r"NPLP\.CAP\.CONTRAST_AFTER must be at least 0, got -1"),
        (("MODEL.LOSSES.PROXY.INTRA_WEIGHT", 0.0), r"needs MODEL\.LOSSES\.PROXY\.INTRA_WEIGHT above 0"),
        (("MODEL.LOSSES.NAME", "('TripletLoss',)"), "needs 'CameraProxyLoss' in MODEL.LOSSES.NAME"),
        (("MODEL.HEADS.OUTPUT", "f_r"), "needs MODEL.HEADS.OUTPUT 'f_bn', got 'f_r'"),
    ],
)
def test_what_cap_cannot_work_with_is_refused(pairs, message, synthetic_root, tmp_path):
    cfg = overlaid("cap", synthetic_root, tmp_path, *pairs)
    with pytest.raises(UserError, match=message):
        build_method(cfg, ReidTrainer.build_model(cfg))


@pytest.mark.long
@pytest.mark.parametrize("name", CLASSES)
def test_with_true_labels_it_ends_far_above_direct_transfer(name, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    sys.modules.pop("true_labels", None)
    from true_labels import train

    pairs = {
        "DATASETS.SYNTHETIC.TRAIN_IDENTITIES": 32,
        "DATASETS.SYNTHETIC.TEST_IDENTITIES": 24,
        **{f"INPUT.SIZE_{part}": "[64,32]" for part in ("TRAIN", "TEST")},
        "SOLVER.IMS_PER_BATCH": 64,
        "NPLP.SOURCE.IMS_PER_BATCH": 32,
        "NPLP.SOURCE.MAX_EPOCH": 6,
        "NPLP.ITERATIONS": 4,
        "NPLP.STEPS_PER_EPOCH": 60,
        "NPLP.EVAL_PERIOD": 0,
    }
    words = [word for pair in pairs.items() for word in pair]
    results = train(overlaid(name, tmp_path / "synthetic", tmp_path / "run", *words))
    assert results["final"]["Rank-1"] > 2 * results["direct_transfer"]["Rank-1"]
    assert results["final"]["mAP"] > 1.4 * results["direct_transfer"]["mAP"]
