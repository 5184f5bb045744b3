"""ResNet-18 at other widths: its layers, its cost, and what it refuses."""

import argparse

import pytest
import torch
from fastreid.config import get_cfg
from torchvision.models import resnet18

from nplp.config import add_nplp_config
from nplp.engine.setup import load_config
from nplp.errors import UserError
from nplp.modeling import NPLP, NarrowResNet18
from nplp.modeling.narrow_resnet import build_narrow_resnet_backbone


def weights(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_with_512_channels_it_computes_what_torchvisions_resnet18_does():
    ours, theirs = NarrowResNet18(512, last_stride=2).eval(), resnet18()
    theirs.fc, theirs.avgpool = torch.nn.Identity(), torch.nn.Identity()
    assert weights(ours) == weights(theirs)
    given = list(theirs.state_dict().values())
    names = list(ours.state_dict())
    assert [value.shape for value in ours.state_dict().values()] == [value.shape for value in given]
    ours.load_state_dict(dict(zip(names, given, strict=True)))
    images = torch.randn(2, 3, 64, 32)
    with torch.no_grad():
        expected = theirs.eval()(images)
        found = ours(images)
    assert found.shape == (2, 512, 2, 1)
    torch.testing.assert_close(found.flatten(1), expected)


@pytest.mark.parametrize(("stride", "rows"), [(1, 4), (2, 2)])
def test_the_feature_map_is_a_sixteenth_or_less(stride, rows):
    assert NarrowResNet18(64, stride)(torch.zeros(2, 3, 64, 32)).shape == (2, 64, rows, rows // 2)


def test_half_the_channels_are_a_quarter_of_the_weights():
    assert weights(NarrowResNet18(256)) == pytest.approx(weights(NarrowResNet18(512)) / 4, rel=0.02)


@pytest.mark.parametrize("channels", [0, -8, 100])
def test_other_widths_are_refused(channels):
    with pytest.raises(ValueError, match=f"channels must be a positive multiple of 8, got {channels}"):
        NarrowResNet18(channels)


def test_imagenet_weights_and_odd_widths_are_one_line_of_the_configuration():
    cfg = get_cfg()
    add_nplp_config(cfg)
    cfg.MODEL.BACKBONE.PRETRAIN = True
    with pytest.raises(UserError, match=r"MODEL\.BACKBONE\.PRETRAIN must be False"):
        build_narrow_resnet_backbone(cfg)
    cfg.MODEL.BACKBONE.PRETRAIN = False
    cfg.MODEL.BACKBONE.FEAT_DIM = 100
    with pytest.raises(UserError, match=r"MODEL\.BACKBONE\.FEAT_DIM: channels must be .* got 100"):
        build_narrow_resnet_backbone(cfg)


def test_the_matrix_trains_it():
    cfg = load_config(argparse.Namespace(config_file="configs/NPLP/reproduce/p2s.yml", opts=[]))
    model = NPLP(cfg)
    assert isinstance(model.backbone, NarrowResNet18)
    model.eval()
    assert model(torch.rand(2, 3, 64, 32) * 255).shape == (2, cfg.MODEL.HEADS.EMBEDDING_DIM)
