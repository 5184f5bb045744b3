"""timm's networks under the head, and the mistakes that are told in one line."""

import sys

import pytest
import timm
import torch
from fastreid.modeling.meta_arch import build_model

from nplp.config.validation import validate_config
from nplp.errors import UserError
from nplp.modeling import TimmBackbone

VIT = {"MODEL__BACKBONE__DEPTH": "vit_tiny_patch16_224", "MODEL__BACKBONE__FEAT_DIM": 192}
SIZE = {"INPUT__SIZE_TRAIN": [64, 32], "INPUT__SIZE_TEST": [64, 32]}


@pytest.fixture
def make(make_cfg):
    return lambda **options: make_cfg(
        **{**VIT, **SIZE, "MODEL__BACKBONE__NAME": "build_timm_backbone", **options}
    )


def test_a_transformer_is_trained_and_evaluated(make):
    model = build_model(make(MODEL__HEADS__POOLING="gem")).train()
    model.criteria["CenterContrastiveLoss"].reset(torch.rand(2, 16))
    images = torch.rand(4, 3, 64, 32) * 255
    losses = model({"images": images, "targets": torch.tensor([0, 0, 1, 1])})
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    assert model.backbone(images).shape == (4, 192, 4, 2)
    with torch.no_grad():
        assert model.eval()(images).shape == (4, 16)


@pytest.mark.parametrize(
    ("name", "channels"),
    [("resnet18", 512), ("swin_tiny_patch4_window7_224", 768), ("mobilenetv3_small_050", 288)],
)
def test_other_networks_give_feature_maps(name, channels):
    with torch.no_grad():
        shape = TimmBackbone(name, (64, 32)).eval()(torch.zeros(1, 3, 64, 32)).shape
    assert shape == (1, channels, 2, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"MODEL__BACKBONE__DEPTH": "vit_tiny"}, r"DEPTH must be a network of timm, got 'vit_tiny'.*vit_"),
        (
            {"INPUT__SIZE_TEST": [96, 32]},
            r"images of one size: set INPUT.SIZE_TEST .*\[64, 32\], got \[96",
        ),
        ({"MODEL__BACKBONE__PRETRAIN": True}, r"PRETRAIN_PATH must name a file with build_timm_backbone"),
        ({"MODEL__BACKBONE__FEAT_DIM": 384}, r"set MODEL\.BACKBONE\.FEAT_DIM to 192"),
        ({"MODEL__BACKBONE__DEPTH": "vit_huge_patch14_224"}, r"parameters, of at most 350,000,000"),
        ({"MODEL__NORM_CAMERAS": True}, r"MODEL\.NORM_CAMERAS True: the model has no batch norms"),
    ],
)
def test_mistakes_are_one_line(make, options, message):
    with pytest.raises(UserError, match=message) as caught:
        build_model(make(**options))
    assert "\n" not in str(caught.value)


def test_initial_weights_are_loaded_from_a_file(make, tmp_path):
    network = timm.create_model("vit_tiny_patch16_224")
    torch.save(network.state_dict(), tmp_path / "vit.pth")
    options = {"MODEL__BACKBONE__PRETRAIN": True, "MODEL__BACKBONE__PRETRAIN_PATH": str(tmp_path / "vit.pth")}
    ours = build_model(make(**options)).backbone.network.state_dict()
    assert torch.equal(ours["blocks.3.attn.qkv.weight"], network.state_dict()["blocks.3.attn.qkv.weight"])
    assert torch.equal(ours["pos_embed"][:, 0], network.state_dict()["pos_embed"][:, 0])


def test_options_of_other_backbones_are_refused(make):
    with pytest.raises(UserError, match=r"LAST_STRIDE 2 .*build_timm_backbone has no such option"):
        validate_config(make(MODEL__BACKBONE__LAST_STRIDE=2))


def test_without_timm_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match="needs timm .*: pip install 'nplp\\[timm\\]'"):
        TimmBackbone("resnet18", (64, 32))
