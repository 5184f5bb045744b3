"""With several threads and workers, at the sizes of real batches, a training step repeats to the bit."""

import random
import subprocess
import time
from contextlib import suppress

import pytest
import torch
from fastreid.utils.events import EventStorage

from busy import two_busy_threads
from nplp.data.datasets import load_training_items
from nplp.data.extraction import extract_features
from nplp.engine.supervised import SupervisedTrainer
from resumed_runs import assert_same_end, killing, start
from tiny import make_tiny_cfg

REPEATS = 10
SOURCE = ("NPLP.ALPHA", 0.05, "MODEL.LOSSES.NAME", '("CrossEntropyLoss", "TripletLoss")')
TARGET = ("NPLP.ALPHA", 0.05, "MODEL.LOSSES.NAME", '("TripletLoss", "CenterContrastiveLoss")')
# From 32,768 values of a batch's embeddings on several threads share what each of them adds up.
BATCHES = {
    "pre-training": (128, (*SOURCE, "MODEL.HEADS.EMBEDDING_DIM", 1024)),
    "adaptation": (64, (*TARGET, "MODEL.HEADS.EMBEDDING_DIM", 1024)),
    "adaptation, concatenated": (
        64,
        (*TARGET, "MODEL.HEADS.FUSION", "concat", "MODEL.BACKBONE.FEAT_DIM", 512),
    ),
}


def state_after_backward(model, state, batch):
    """Return the losses, all gradients and all buffers after a forward and a backward pass from ``state``."""
    model.load_state_dict(state)
    model.zero_grad()
    losses = model({"images": batch["images"].clone(), "targets": batch["targets"]})
    sum(losses.values()).backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    found = {**losses, **gradients, **dict(model.named_buffers())}
    return {name: value.detach().clone() for name, value in found.items()}


def assert_repeats(cfg, batch_size, repeats=REPEATS):
    torch.manual_seed(0)
    model = SupervisedTrainer.build_model(cfg).train()
    criteria = getattr(model, "criteria", {})
    if "CenterContrastiveLoss" in criteria:
        table = criteria["CenterContrastiveLoss"]
        # It moves with each step, as it should; here every repeat begins with the same.
        table.update = False
        table.reset(torch.randn(batch_size // 4, model.heads.embedding_dim))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    images = torch.rand(batch_size, 3, *cfg.INPUT.SIZE_TRAIN) * 255
    batch = {"images": images, "targets": torch.arange(batch_size) // 4}
    # The toolbox's models log their accuracy.
    with EventStorage(), two_busy_threads():
        first = state_after_backward(model, state, batch)
        for _ in range(repeats - 1):
            again = state_after_backward(model, state, batch)
            assert [name for name in first if not torch.equal(first[name], again[name])] == []


@pytest.mark.parametrize("repeats", [REPEATS, pytest.param(50, marks=pytest.mark.long)])
@pytest.mark.parametrize("stage", BATCHES)
def test_gradients_repeat_to_the_bit(synthetic_root, tmp_path, stage, repeats):
    size, options = BATCHES[stage]
    options = [*options, "MODEL.HEADS.NUM_CLASSES", 100]
    assert_repeats(make_tiny_cfg(synthetic_root, tmp_path, *options), size, repeats)


def test_gradients_of_a_stock_model_repeat_to_the_bit(synthetic_root, tmp_path):
    options = ("MODEL.HEADS.NUM_CLASSES", 100, "MODEL.BACKBONE.PRETRAIN", False)
    config = "configs/NPLP/synthetic_baseline.yml"
    assert_repeats(make_tiny_cfg(synthetic_root, tmp_path, *options, config_file=config), 128)


@pytest.mark.long
@pytest.mark.parametrize("losses", [SOURCE, TARGET], ids=["pre-training", "adaptation"])
def test_gradients_of_the_papers_model_repeat_to_the_bit(synthetic_root, tmp_path, losses):
    """ResNet-50 and 64 images of 256 x 128, as in the paper; a few repeats, each takes long."""
    options = ("MODEL.BACKBONE.PRETRAIN", False, "INPUT.SIZE_TRAIN", [256, 128], *losses)
    options += ("MODEL.HEADS.NUM_CLASSES", 100, "MODEL.HEADS.EMBEDDING_DIM", 1024)
    cfg = make_tiny_cfg(synthetic_root, tmp_path, *options, config_file="configs/NPLP/d2m.yml")
    assert_repeats(cfg, 64, repeats=4)


def test_extraction_repeats_to_the_bit(synthetic_root, tmp_path):
    cfg = make_tiny_cfg(synthetic_root, tmp_path, "DATALOADER.NUM_WORKERS", 1, "INPUT.SIZE_TEST", [64, 32])
    model, items = SupervisedTrainer.build_model(cfg), load_training_items(cfg)
    with two_busy_threads():
        first = extract_features(cfg, model, items, "Features")
        assert all(torch.equal(first, extract_features(cfg, model, items, "Features")) for _ in range(5))


SIZES = {
    "DATALOADER.NUM_WORKERS": 1,
    "SOLVER.IMS_PER_BATCH": 64,
    "NPLP.SOURCE.IMS_PER_BATCH": 128,
    "MODEL.HEADS.EMBEDDING_DIM": 1024,
    "NPLP.EPOCHS_PER_ITERATION": 1,
    "NPLP.SOURCE.MAX_EPOCH": 1,
}
"""A worker, and batches as large as the paper's, whose gradients several threads add up."""


def begin(synthetic_root, output, *arguments, **options):
    sizes = [word for key, value in SIZES.items() for word in (key, str(value))]
    return start(synthetic_root, output, *arguments, options=sizes, threads=2, **options)


def finish(process):
    shown, _ = process.communicate(timeout=600)
    assert process.returncode == 0, shown


@pytest.fixture(scope="module")
def of_two_threads(synthetic_root, tmp_path_factory):
    """The folder of an undisturbed run of two threads and a worker, and the seconds it took."""
    output, since = tmp_path_factory.mktemp("undisturbed"), time.monotonic()
    finish(begin(synthetic_root, output))
    return output, time.monotonic() - since


def test_a_killed_run_of_two_threads_and_a_worker_ends_as_the_undisturbed_one(
    of_two_threads, synthetic_root, tmp_path
):
    step = ("nplp.engine.trainer:ReidTrainer.run_step", 4, "after")
    finish(begin(synthetic_root, tmp_path, program=killing(step)))
    assert_same_end(tmp_path, of_two_threads[0])


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2))
def test_ten_kills_of_a_run_of_two_threads(of_two_threads, synthetic_root, tmp_path, seed):
    reference, seconds = of_two_threads
    rng = random.Random(seed)
    for attempt in range(5):
        process = begin(synthetic_root, tmp_path, *(["--resume"] if attempt else []))
        with two_busy_threads(), suppress(subprocess.TimeoutExpired):
            process.wait(timeout=rng.uniform(0.3, 1) * seconds)
        process.kill()
        process.communicate()
    finish(begin(synthetic_root, tmp_path, "--resume"))
    assert_same_end(tmp_path, reference)
