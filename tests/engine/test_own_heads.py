"""A source model that keeps its own head is adapted, resumed, saved and exported with it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nplp.engine.pipeline import load_trained, run
from nplp.engine.setup import prepare_output
from nplp.export.converters import export_onnx
from nplp.export.inference import inference_weights
from nplp.export.running import LEAST_COSINE, check_agreement
from nplp.weights.source_models import recognise
from resumed_runs import killing
from source_cases import fastreid, save
from tiny import make_tiny_cfg, tiny_options

ROOT = Path(__file__).parents[2]
NARROW = {"BACKBONE__NAME": "build_narrow_resnet_backbone", "BACKBONE__FEAT_DIM": 16, "HEADS__NUM_CLASSES": 9}
SHORT = ["NPLP.ITERATIONS", "2", "NPLP.EPOCHS_PER_ITERATION", "2", "NPLP.STEPS_PER_EPOCH", "3"]
PROXIES = ["MODEL.LOSSES.NAME", "('TripletLoss','CenterContrastiveLoss','CameraProxyLoss')"]


def pairs_of(source):
    pairs = {**source.options, "NPLP.SOURCE.WEIGHTS": source.weights}
    return [str(word) for pair in pairs.items() for word in pair]


@pytest.fixture
def source(tmp_path):
    made = fastreid(**NARROW, HEADS__POOL_LAYER="GeneralizedMeanPoolingP")
    return recognise(save(made, tmp_path / "sbs.pth"))


def test_it_is_adapted_and_exported_with_its_head(synthetic_root, tmp_path, source):
    pytest.importorskip("onnxruntime")
    cfg = make_tiny_cfg(synthetic_root, tmp_path / "run", *pairs_of(source), *SHORT, *PROXIES)
    prepare_output(cfg)
    results = run(cfg, cfg, resume=False)
    assert {"direct_transfer", "final"} <= results.keys()
    before = torch.load(source.weights, weights_only=True)["model"]
    after = torch.load(tmp_path / "run" / "model_final.pth", weights_only=True)["model"]
    names = {"heads.pooling.p": "heads.pool_layer.p", "heads.neck.0.weight": "heads.bottleneck.0.weight"}
    for ours, theirs in names.items():
        assert after[ours].shape == before[theirs].shape
        assert 0 < (after[ours] - before[theirs]).abs().max() < 0.1, "trained from the file's values"
    assert torch.equal(after["heads.neck.0.bias"], before["heads.bottleneck.0.bias"]), "MODEL.HEADS.NECK_BIAS"
    model = load_trained(cfg)[0]
    weights = inference_weights(model)
    assert {"heads.pooling.p", "heads.neck.0.weight", "heads.neck.0.running_mean"} <= weights.keys()
    export_onnx(model, (32, 16), tmp_path / "model.onnx")
    crops = np.random.default_rng(1).integers(0, 256, (3, 32, 16, 3), dtype=np.uint8)
    assert check_agreement(model, tmp_path / "model.onnx", (32, 16), crops) > LEAST_COSINE


def finish(synthetic_root, output, source, program=(sys.executable, "tools/train_net.py")):
    options = [*tiny_options(synthetic_root, output), *pairs_of(source), *SHORT, "MODEL.HEADS.OUTPUT", "f_r"]
    return subprocess.run(
        [*program, "--config-file", "configs/NPLP/quickstart.yml", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )


def test_a_killed_run_ends_as_one_that_was_not(synthetic_root, tmp_path, source):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finished = finish(synthetic_root, whole, source)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    end = ("nplp.engine.adaptation:AdaptationTrainer._end_epoch", 4, "before")
    resumed = finish(synthetic_root, killed, source, program=killing(end))
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    finals = [torch.load(path / "model_final.pth", weights_only=True) for path in (killed, whole)]
    ours, theirs = (final["model"] for final in finals)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert "heads.pooling.p" in theirs
