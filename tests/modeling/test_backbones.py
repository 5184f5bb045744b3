"""The toolbox's backbones under the head: one training step and one evaluation each, on small images."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from fastreid.modeling.meta_arch import build_model

from nplp.errors import UserError

RESNET, OSNET, VIT = "build_resnet_backbone", "build_osnet_backbone", "build_vit_backbone"


def train_and_evaluate(cfg: Any, granularities: int) -> None:
    torch.manual_seed(0)
    model = build_model(cfg).train()
    model.criteria["CenterContrastiveLoss"].reset(torch.rand(2, 16))
    images = torch.rand(4, 3, 64, 32) * 255
    losses = model({"images": images, "targets": torch.tensor([0, 0, 1, 1])})
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    unused = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert unused == []
    assert model.heads.pooling.granularities == granularities
    with torch.no_grad():
        embedding = model.eval()(images)
    assert embedding.shape == (4, 16)
    assert embedding.isfinite().all()


@pytest.mark.parametrize("with_ibn", [False, True])
@pytest.mark.parametrize(
    ("name", "depth", "feat_dim"),
    [
        (RESNET, "18x", 512),
        (RESNET, "34x", 512),
        (RESNET, "50x", 2048),
        (RESNET, "101x", 2048),
        (OSNET, "x1_0", 512),
    ],
)
def test_convolutional(
    make_cfg: Callable[..., Any], name: str, depth: str, feat_dim: int, with_ibn: bool
) -> None:
    cfg = make_cfg(
        MODEL__BACKBONE__NAME=name,
        MODEL__BACKBONE__DEPTH=depth,
        MODEL__BACKBONE__FEAT_DIM=feat_dim,
        MODEL__BACKBONE__WITH_IBN=with_ibn,
    )
    train_and_evaluate(cfg, granularities=2)


@pytest.mark.parametrize("granularities", [1, 2, 3, 4])
def test_granularities(make_cfg: Callable[..., Any], granularities: int) -> None:
    train_and_evaluate(make_cfg(MODEL__HEADS__PAP=granularities), granularities)


def vit(make_cfg: Callable[..., Any], **options: Any) -> Any:
    return make_cfg(
        MODEL__BACKBONE__NAME=VIT,
        MODEL__BACKBONE__DEPTH="small",
        MODEL__BACKBONE__FEAT_DIM=768,
        **options,
    )


def test_vision_transformer_takes_one_granularity(make_cfg: Callable[..., Any]) -> None:
    train_and_evaluate(vit(make_cfg, MODEL__HEADS__PAP=1), granularities=1)


def test_vision_transformer_refuses_two(make_cfg: Callable[..., Any]) -> None:
    with pytest.raises(
        UserError, match=r"build_vit_backbone .*\(1, 768, 1, 1\).*MODEL\.HEADS\.PAP to at most 1"
    ):
        build_model(vit(make_cfg))
