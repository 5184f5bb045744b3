"""Mixed-precision steps, and the stock model, on the CPU."""

import pytest
import torch
from fastreid.config import get_cfg
from fastreid.engine import defaults, train_loop
from fastreid.modeling import build_model
from fastreid.solver import build_optimizer
from fastreid.utils.events import EventStorage
from torch import nn

from nplp.host.amp import AMPTrainer, widest_half


class Line(nn.Module):
    """One weight; the loss is the squared error of weight times image."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[2.0]]))
        self.seen: list[torch.dtype] = []

    def forward(self, batch: dict) -> dict:
        product = batch["images"] @ self.weight
        self.seen.append(product.dtype)
        return {"loss": (product.float() - batch["targets"]).square().mean()}


def make_batch() -> dict:
    return {"images": torch.tensor([[1.0], [3.0]]), "targets": torch.zeros(2, 1)}


def make_trainer(model: nn.Module, batches: list, **kwargs) -> AMPTrainer:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = AMPTrainer(model, batches, optimizer, None, **kwargs)
    trainer.iter = 0
    return trainer


def stock_config():
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.DEPTH = "18x"
    cfg.MODEL.BACKBONE.FEAT_DIM = 512
    cfg.MODEL.BACKBONE.PRETRAIN = False
    cfg.MODEL.HEADS.NAME = "EmbeddingHead"
    cfg.MODEL.HEADS.NUM_CLASSES = 3
    cfg.MODEL.HEADS.POOL_LAYER = "GlobalAvgPool"
    cfg.MODEL.HEADS.WITH_BNNECK = True
    cfg.MODEL.LOSSES.NAME = ("CrossEntropyLoss", "TripletLoss")
    return cfg


def reid_batch() -> dict:
    images = torch.rand(6, 3, 64, 32, generator=torch.Generator().manual_seed(0)) * 255
    return {"images": images, "targets": torch.tensor([0, 0, 1, 1, 2, 2])}


def test_one_step_on_the_cpu_is_bfloat16_and_right():
    model = Line()
    trainer = make_trainer(model, [make_batch()])
    with EventStorage(0) as storage:
        trainer.run_step()
        # Mean of (2 * 1)^2 and (2 * 3)^2; its derivative by the weight is 2 * 2 * (1 + 9) / 2.
        assert storage.latest()["total_loss"][0] == pytest.approx(20.0)
    assert model.seen == [torch.bfloat16]
    assert model.weight.dtype == torch.float32
    assert model.weight.item() == pytest.approx(2.0 - 0.1 * 20.0, abs=1e-6)


def test_the_scaler_does_nothing_on_the_cpu():
    trainer = make_trainer(Line(), [])
    assert not trainer.grad_scaler.is_enabled()
    assert trainer.grad_scaler.state_dict() == {}


def test_gradients_of_one_step_do_not_reach_the_next():
    model = Line()
    trainer = make_trainer(model, [make_batch(), make_batch()])
    trainer.optimizer.param_groups[0]["lr"] = 0.05
    with EventStorage(0):
        trainer.run_step()
        trainer.run_step()
    # The derivative is 10 times the weight, so each step halves it.
    assert model.weight.item() == pytest.approx(0.5, abs=1e-2)


def test_a_scaler_that_is_given_is_used():
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=1)
    model = Line()
    trainer = make_trainer(model, [make_batch()], grad_scaler=scaler)
    with EventStorage(0):
        trainer.run_step()
    assert trainer.grad_scaler is scaler
    assert scaler.get_scale() == 16.0
    assert model.weight.item() == pytest.approx(0.0, abs=1e-6)


def test_a_loss_that_is_no_number_ends_training():
    batch = make_batch()
    batch["targets"][0] = float("nan")
    model = Line()
    trainer = make_trainer(model, [batch])
    with EventStorage(0), pytest.raises(FloatingPointError):
        trainer.run_step()
    assert model.weight.item() == 2.0


def test_evaluation_mode_is_refused():
    trainer = make_trainer(Line(), [make_batch()])
    trainer.model.eval()
    with pytest.raises(RuntimeError, match="training mode"):
        trainer.run_step()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_dtypes_that_do_not_work_are_refused(dtype):
    with pytest.raises(ValueError, match=rf"dtype must be .* got {dtype}"):
        make_trainer(Line(), [], dtype=dtype)


def test_several_devices_in_one_process_are_refused():
    with pytest.raises(ValueError, match="DataParallel over several"):
        make_trainer(nn.DataParallel(Line()), [])


def test_the_bridge_is_in_place():
    assert train_loop.AMPTrainer is defaults.AMPTrainer is AMPTrainer


@pytest.mark.parametrize("step", ["SimpleTrainer", "AMPTrainer"])
def test_the_stock_model_learns_on_the_cpu(step):
    torch.manual_seed(0)
    cfg = stock_config()
    model = build_model(cfg)
    optimizer, param_wrapper = build_optimizer(cfg, model)
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    trainer = getattr(train_loop, step)(model, [reid_batch() for _ in range(2)], optimizer, param_wrapper)
    trainer.iter = 0
    with EventStorage(0) as storage:
        for _ in range(2):
            trainer.run_step()
        assert {"loss_cls", "loss_triplet"} <= set(storage.latest())
    after = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert torch.isfinite(after).all()
    assert (before != after).float().mean() > 0.9
    model.eval()
    with torch.no_grad():
        assert model(reid_batch()).shape == (6, 512)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_one_step_on_the_gpu(dtype):
    model = Line().cuda()
    batch = {key: value.cuda() for key, value in make_batch().items()}
    trainer = make_trainer(model, [batch], dtype=dtype)
    with EventStorage(0):
        trainer.run_step()
    assert model.seen == [dtype]
    assert trainer.grad_scaler.is_enabled() == (dtype == torch.float16)
    assert model.weight.item() == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize(("has_units", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_a_gpu_without_bfloat16_takes_float16(monkeypatch, has_units, dtype):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: has_units)
    assert widest_half("cuda") == dtype
    assert widest_half("cpu") == torch.bfloat16
