"""A GPU does what the processor does: labels, losses, gradients, steps, features and checkpoints."""

import copy

import numpy as np
import pytest
import torch
from fastreid.engine.train_loop import SimpleTrainer
from fastreid.utils.events import EventStorage

from nplp.clustering import estimate_pseudo_labels
from nplp.data.datasets import load_training_items
from nplp.data.extraction import extract_features
from nplp.engine.checkpoint import load_weights, read_checkpoint
from nplp.engine.pipeline import CLASSIFIER, run
from nplp.engine.setup import prepare_output
from nplp.engine.trainer import ReidTrainer
from nplp.host.amp import AMPTrainer
from nplp.losses.lookup_table import update_lookup_table_
from on_devices import on_devices
from tiny import make_tiny_cfg

LOSSES = ("CrossEntropyLoss", "TripletLoss", "CenterContrastiveLoss")
IDENTITIES = 6


@pytest.fixture(autouse=True)
def no_tf32():
    """Compare in float32: TF32, torch's default for convolutions, has ten bits."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.fixture
def make_cfg(synthetic_root, tmp_path):
    """Return a builder of tiny configurations on a device."""

    def make(device, *pairs):
        return make_tiny_cfg(
            synthetic_root,
            tmp_path / f"run_{device}",
            *pairs,
            "MODEL.DEVICE",
            device,
            "INPUT.SIZE_TRAIN",
            [64, 32],
        )

    return make


def build(cfg):
    """Return the model on its device, with the same weights and lookup table wherever that is."""
    torch.manual_seed(0)
    model = ReidTrainer.build_model(cfg)
    model.criteria["CenterContrastiveLoss"].reset(torch.rand(IDENTITIES, model.heads.embedding_dim))
    return model.train()


def batches(device, number=1):
    """Yield batches of noise: four images of each identity."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(number):
        images = torch.rand(4 * IDENTITIES, 3, 64, 32, generator=generator) * 255
        targets = torch.arange(IDENTITIES).repeat_interleave(4)
        yield {"images": images.to(device), "targets": targets.to(device)}


def all_losses(make_cfg, device):
    return make_cfg(device, "MODEL.LOSSES.NAME", LOSSES, "MODEL.HEADS.NUM_CLASSES", IDENTITIES)


def features_of(count, dimension, dtype):
    """Return features of some twelve images an identity, and their cameras."""
    rng = np.random.default_rng(0)
    identities = rng.integers(count // 12, size=count)
    values = rng.standard_normal((count // 12, dimension))[identities] + 0.6 * rng.standard_normal(
        (count, dimension)
    )
    return torch.from_numpy(values).to(dtype), rng.integers(5, size=count)


@on_devices
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("distance", ["jaccard", "euclidean"])
def test_pseudo_labels_are_those_of_the_processor(device, distance, dtype):
    features, cameras = features_of(1500, 48, dtype)
    options = {
        "alpha": 0.006,
        "distance": distance,
        "camera_centering": True,
        "reclustered_outliers": "rejoin",
    }
    here, there = (estimate_pseudo_labels(features.to(name), cameras, **options) for name in ("cpu", device))
    assert here.num_clusters > 50
    np.testing.assert_array_equal(there.startup_labels, here.startup_labels)
    np.testing.assert_array_equal(there.labels, here.labels)
    assert there.epsilon_e == pytest.approx(here.epsilon_e, rel=1e-6)


@on_devices
def test_losses_and_gradients_are_those_of_the_processor(device, make_cfg):
    found = {}
    for name in ("cpu", device):
        model = build(all_losses(make_cfg, name))
        losses = model(next(batches(name)))
        sum(losses.values()).backward()
        gradients = {key: value.grad.cpu() for key, value in model.named_parameters()}
        found[name] = (
            {key: loss.item() for key, loss in losses.items()},
            gradients,
            model.criteria["CenterContrastiveLoss"].table,
        )
    (here, expected, table), (there, gradients, moved) = found["cpu"], found[device]
    assert there == pytest.approx(here, rel=1e-3)
    for name, value in expected.items():
        assert (gradients[name] - value).norm() <= 2e-2 * value.norm() + 1e-5, name
    torch.testing.assert_close(moved.cpu(), table, rtol=1e-3, atol=1e-4)


@on_devices
@pytest.mark.parametrize("normalize", [True, False])
def test_the_lookup_table_moves_as_on_the_processor(device, normalize):
    generator = torch.Generator().manual_seed(0)
    table, features = (torch.rand(count, 16, generator=generator) for count in (9, 40))
    labels = torch.randint(9, (40,), generator=generator)
    here, there = (
        update_lookup_table_(table.clone().to(name), features.to(name), labels.to(name), normalize).cpu()
        for name in ("cpu", device)
    )
    torch.testing.assert_close(there, here, rtol=1e-5, atol=1e-6)


@on_devices
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_steps_in_mixed_precision_learn(device, dtype, make_cfg):
    if device == "cpu" and dtype == torch.float16:
        pytest.skip("float16 is for a GPU")
    cfg = all_losses(make_cfg, device)
    model = build(cfg)
    before = copy.deepcopy(model.state_dict())
    trainer = AMPTrainer(model, batches(device, 4), *ReidTrainer.build_optimizer(cfg, model), dtype=dtype)
    trainer.iter = 0
    with EventStorage(0) as storage:
        for _ in range(4):
            trainer.run_step()
        assert np.isfinite(storage.latest()["total_loss"][0])
    after = model.state_dict()
    assert all(value.dtype == before[name].dtype for name, value in after.items())
    assert all(bool(value.isfinite().all()) for value in after.values())
    moved = [not torch.equal(value, before[name]) for name, value in after.items()]
    assert np.mean(moved) > 0.8


@on_devices
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_steps_repeat_to_the_bit_with_deterministic_algorithms(device, dtype, make_cfg):
    cfg = all_losses(make_cfg, device)

    def weights():
        model = build(cfg)
        step = SimpleTrainer if dtype is None else AMPTrainer
        options = {} if dtype is None else {"dtype": dtype}
        trainer = step(model, batches(device, 20), *ReidTrainer.build_optimizer(cfg, model), **options)
        trainer.iter = 0
        with EventStorage(0):
            for _ in range(20):
                trainer.run_step()
        return {**model.state_dict(), "table": model.criteria["CenterContrastiveLoss"].table}

    torch.use_deterministic_algorithms(True)
    try:
        first, second = weights(), weights()
    finally:
        torch.use_deterministic_algorithms(False)
    assert [name for name, value in first.items() if not torch.equal(value, second[name])] == []


@on_devices
def test_features_are_those_of_the_processor(device, make_cfg):
    found = {}
    for name in ("cpu", device):
        cfg = make_cfg(name, "INPUT.SIZE_TEST", [64, 32])
        found[name] = extract_features(cfg, build(cfg), load_training_items(cfg)[:40], "features")
    assert found[device].device.type == "cpu"
    assert found[device].dtype == torch.float32
    torch.testing.assert_close(found[device], found["cpu"], rtol=1e-3, atol=1e-4)


@on_devices
def test_a_run_on_a_device_is_resumed_there_and_its_model_used_on_the_processor(device, make_cfg):
    cfg = make_cfg(device, "NPLP.ITERATIONS", 1, "NPLP.STARTUP_ITERATIONS", 1, "NPLP.SOURCE.MAX_EPOCH", 1)
    prepare_output(cfg)
    results = run(cfg, cfg, resume=False)
    assert run(cfg, cfg, resume=True) == results
    path = f"{cfg.OUTPUT_DIR}/model_final.pth"
    state = read_checkpoint(path)["model"]
    on_cpu = make_cfg("cpu")
    model = ReidTrainer.build_model(on_cpu)
    load_weights(model, path, optional=CLASSIFIER)
    for name, value in model.state_dict().items():
        assert value.device.type == "cpu"
        assert torch.equal(value, state[name].cpu()), name
