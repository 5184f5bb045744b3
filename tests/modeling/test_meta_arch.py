"""The registered meta-architecture on a backbone of one convolution."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from fastreid.modeling.meta_arch import build_model
from fastreid.utils.events import EventStorage
from torch import nn

from nplp.errors import UserError
from nplp.losses import BatchHardTripletLoss, CenterContrastiveLoss, batch_hard_triplet_loss, softmax_loss
from nplp.modeling import NPLP, PAPHead

CE, TRIPLET, CC = "CrossEntropyLoss", "TripletLoss", "CenterContrastiveLoss"
MEAN, STD = (100.0, 110.0, 120.0), (50.0, 60.0, 70.0)


def build(backbone: nn.Module, losses: tuple[str, ...], num_classes: int = 3, **options: Any) -> NPLP:
    torch.manual_seed(0)
    heads = PAPHead(feat_dim=5, embedding_dim=4, num_classes=num_classes, loss_names=losses)
    model = NPLP(backbone=backbone, heads=heads, loss_names=losses, pixel_mean=MEAN, pixel_std=STD, **options)
    if "CenterContrastiveLoss" in model.criteria:
        model.criteria[CC].reset(torch.rand(3, 4) + 0.1)
    return model


def test_pretraining_losses_are_eqs_1_and_2(tiny_backbone: nn.Module, batch: dict[str, Any]) -> None:
    model = build(tiny_backbone, (CE, TRIPLET), criteria={TRIPLET: BatchHardTripletLoss(0.7, "sum")})
    losses = model(batch)
    output = model.heads(model.backbone(model.preprocess_image(batch["images"])))
    assert list(losses) == ["loss_cls", "loss_triplet"]
    torch.testing.assert_close(losses["loss_cls"], softmax_loss(output.logits, batch["targets"]))
    expected = batch_hard_triplet_loss(output.f_e, batch["targets"], 0.7, "sum")
    torch.testing.assert_close(losses["loss_triplet"], expected)
    assert "CenterContrastiveLoss" not in model.criteria


def test_adaptation_losses_are_eqs_1_and_10(tiny_backbone: nn.Module, batch: dict[str, Any]) -> None:
    model = build(tiny_backbone, (TRIPLET, CC), criteria={CC: CenterContrastiveLoss(temperature=0.3)})
    losses = model(batch)
    output = model.heads(model.backbone(model.preprocess_image(batch["images"])))
    assert list(losses) == ["loss_triplet", "loss_cc"]
    torch.testing.assert_close(losses["loss_triplet"], batch_hard_triplet_loss(output.f_e, batch["targets"]))
    torch.testing.assert_close(losses["loss_cc"], model.criteria[CC](output.f_r, batch["targets"]))
    assert model.heads.classifier is None


def test_a_step_moves_the_lookup_table(tiny_backbone: nn.Module, batch: dict[str, Any]) -> None:
    model = build(tiny_backbone, (TRIPLET, CC))
    before = model.criteria[CC].table.clone()
    losses = model(batch)
    assert torch.equal(model.criteria[CC].table, before)
    sum(losses.values()).backward()
    assert not torch.equal(model.criteria[CC].table, before)
    assert all("_table" not in key for key in model.state_dict())


@pytest.mark.parametrize(
    "losses", [(CE,), (TRIPLET,), (CC,), (CE, TRIPLET), (TRIPLET, CC), (CE, TRIPLET, CC)]
)
def test_every_trainable_parameter_gets_a_gradient(
    tiny_backbone: nn.Module, batch: dict[str, Any], losses: tuple[str, ...]
) -> None:
    model = build(tiny_backbone, losses)
    sum(model(batch).values()).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


def test_images_are_normalised_into_a_new_tensor(tiny_backbone: nn.Module) -> None:
    model = build(tiny_backbone, (TRIPLET,))
    images = torch.tensor([150.0, 50.0, 120.0]).view(1, 3, 1, 1).repeat(1, 1, 2, 2)
    before = images.clone()
    normalised = model.preprocess_image(images)
    assert torch.equal(images, before)
    assert normalised[0, :, 0, 0].tolist() == [1.0, -1.0, 0.0]
    integers = model.preprocess_image(images.to(torch.uint8))
    assert torch.equal(integers, normalised)


def test_evaluation_gives_the_embedding(tiny_backbone: nn.Module, batch: dict[str, Any]) -> None:
    model = build(tiny_backbone, (CE, TRIPLET)).eval()
    embedding = model(batch["images"])
    assert embedding.shape == (6, 4)
    assert torch.equal(model({"images": batch["images"]}), embedding)
    assert model.device == torch.device("cpu")


@pytest.mark.parametrize("losses", [(TRIPLET,), (CE, TRIPLET), (TRIPLET, CC)])
def test_negative_target_is_refused_and_left_alone(
    tiny_backbone: nn.Module, batch: dict[str, Any], losses: tuple[str, ...]
) -> None:
    batch["targets"] = torch.tensor([-1] * 6)
    with pytest.raises(ValueError, match="targets must be >= 0, got -1"):
        build(tiny_backbone, losses)(batch)
    assert batch["targets"].tolist() == [-1] * 6


def test_training_needs_targets(tiny_backbone: nn.Module, batch: dict[str, Any]) -> None:
    model = build(tiny_backbone, (TRIPLET,))
    for inputs in (batch["images"], {"images": batch["images"]}):
        with pytest.raises(ValueError, match="got no targets"):
            model(inputs)


def test_cross_entropy_without_identities_evaluates_but_does_not_train(
    tiny_backbone: nn.Module, batch: dict[str, Any]
) -> None:
    model = build(tiny_backbone, (CE, TRIPLET), num_classes=0)
    with pytest.raises(UserError, match=r"MODEL\.HEADS\.NUM_CLASSES must be above 0 .* got 0"):
        model(batch)
    assert model.eval()(batch).shape == (6, 4)


def test_without_losses_it_is_for_inference_alone(tiny_backbone: nn.Module, batch: dict[str, Any]) -> None:
    model, whole = build(tiny_backbone, ()), build(tiny_backbone, (TRIPLET,))
    assert model.heads.neck is None
    missing, unexpected = model.load_state_dict(whole.state_dict(), strict=False)
    assert missing == []
    assert all(key.startswith("heads.neck.") for key in unexpected)
    assert torch.equal(model.eval()(batch), whole.eval()(batch))
    with pytest.raises(UserError, match=r"MODEL\.LOSSES\.NAME must name one or more of"):
        model.train()(batch)


@pytest.mark.parametrize("losses", [("CircleLoss",), (TRIPLET, "Triplet")])
def test_rejects_loss_names(tiny_backbone: nn.Module, losses: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match=r"MODEL\.LOSSES\.NAME must name one or more of"):
        build(tiny_backbone, losses)


def test_accuracy_is_logged_where_a_log_is_open(tiny_backbone: nn.Module, batch: dict[str, Any]) -> None:
    model = build(tiny_backbone, (CE,))
    with torch.no_grad():
        model.heads.classifier.weight.zero_()
    with EventStorage() as storage:
        model(batch)
        assert storage.latest()["cls_accuracy"][0] == pytest.approx(1 / 3)


def test_builds_from_a_configuration(make_cfg: Callable[..., Any]) -> None:
    cfg = make_cfg(
        MODEL__LOSSES__NAME=(CE, TRIPLET, CC),
        MODEL__HEADS__NUM_CLASSES=5,
        MODEL__LOSSES__TRI__MARGIN=0.9,
        MODEL__LOSSES__TRI__REDUCTION="sum",
        MODEL__LOSSES__CC__NORMALIZE=False,
        MODEL__LOSSES__CC__TEMPERATURE=0.5,
        MODEL__LOSSES__CC__UPDATE=False,
    )
    model = build_model(cfg)
    assert isinstance(model, NPLP)
    assert (model.criteria[TRIPLET].margin, model.criteria[TRIPLET].reduction) == (0.9, "sum")
    contrastive = model.criteria[CC]
    assert (contrastive.normalize, contrastive.temperature, contrastive.update) == (False, 0.5, False)
    assert model.pixel_mean.flatten().tolist() == pytest.approx(cfg.MODEL.PIXEL_MEAN)
    assert model.heads.classifier.weight.shape == (5, 16)


@pytest.mark.parametrize(
    ("key", "value"), [("TRI__MARGIN", -1.0), ("TRI__REDUCTION", "none"), ("CC__TEMPERATURE", 0.0)]
)
def test_rejects_loss_options(make_cfg: Callable[..., Any], key: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"MODEL\.LOSSES\.{key.replace('__', '.')} must be .* got"):
        build_model(make_cfg(**{f"MODEL__LOSSES__{key}": value}))


def test_pretrained_weights_fit_the_adapting_model(make_cfg: Callable[..., Any]) -> None:
    """All but the source's classifier."""
    source = build_model(make_cfg(MODEL__LOSSES__NAME=(CE, TRIPLET), MODEL__HEADS__NUM_CLASSES=5))
    target = build_model(make_cfg())
    missing, unexpected = target.load_state_dict(source.state_dict(), strict=False)
    assert missing == []
    assert unexpected == ["heads.classifier.weight"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_trains_on_a_gpu_in_mixed_precision(tiny_backbone: nn.Module, batch: dict[str, Any]) -> None:
    model = build(tiny_backbone, (CE, TRIPLET, CC)).cuda()
    before = model.criteria[CC].table.clone()
    with torch.autocast("cuda", dtype=torch.float16):
        losses = model(batch)
    sum(losses.values()).backward()
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    assert not torch.equal(model.criteria[CC].table, before)


@pytest.mark.parametrize("options", [{}, {"MODEL__NORM_CAMERAS": True}, {"MODEL__NORM_CHUNK": 4}])
def test_channels_last_changes_the_layout_and_the_rounding_alone(
    make_cfg: Callable[..., Any], options: dict[str, Any]
) -> None:
    models = []
    for last in (False, True):
        torch.manual_seed(0)
        models.append(NPLP(make_cfg(MODEL__CHANNELS_LAST=last, **options)).double())
    plain, laid_out = models
    assert list(laid_out.state_dict()) == list(plain.state_dict())
    seen: list[torch.Tensor] = []
    laid_out.backbone.register_forward_hook(lambda _, given, made: seen.extend([given[0], made]))
    images = torch.rand(8, 3, 64, 32, generator=torch.Generator().manual_seed(0)).double() * 255
    batch = {"images": images, "targets": torch.arange(8) // 2, "camids": torch.arange(8) % 2}
    maps: list[torch.Tensor] = []
    for model in (plain, laid_out):
        maps.append(model.output(batch).f_e)
        maps[-1].square().sum().backward()
    torch.testing.assert_close(*maps)
    for ours, theirs in zip(laid_out.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    assert all(tensor.is_contiguous(memory_format=torch.channels_last) for tensor in seen)
    assert not seen[0].is_contiguous()
    # The toolbox's optimisers take views of the weights.
    assert all(weight.is_contiguous() for weight in laid_out.parameters())
