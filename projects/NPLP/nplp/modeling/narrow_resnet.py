"""A ResNet-18 of any width, for models that are trained from scratch on processors."""

import torch
from fastreid.config import CfgNode
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from fastreid.modeling.backbones.resnet import BasicBlock
from torch import nn

from nplp.errors import UserError

__all__ = ["NarrowResNet18", "build_narrow_resnet_backbone"]

STAGES = 4
BLOCKS = 2
EXPANSION = 2 ** (STAGES - 1)


class NarrowResNet18(nn.Module):
    """The layers of ResNet-18 with fewer channels: images [B, 3, H, W] to [B, C, H/16, W/16].

    C = 512 is ResNet-18 itself; its cost falls with the square of C.

    Args:
        channels: C, of the last stage; each stage before has half as many. A multiple of 8.
        last_stride: of the last stage, 1 or 2; 2 halves H and W once more.

    Raises:
        ValueError: if ``channels`` is no positive multiple of 8.
    """

    def __init__(self, channels: int, last_stride: int = 1) -> None:
        super().__init__()
        if channels < EXPANSION or channels % EXPANSION:
            raise ValueError(f"channels must be a positive multiple of {EXPANSION}, got {channels}")
        width = channels // EXPANSION
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        strides = (1, 2, 2, last_stride)
        widths = [width * 2**stage for stage in range(STAGES)]
        self.stages = nn.Sequential(
            *(
                _stage(given, made, stride)
                for given, made, stride in zip([width, *widths], widths, strides, strict=False)
            )
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the feature map of ``images``."""
        return self.stages(self.stem(images))


def _stage(given: int, made: int, stride: int) -> nn.Sequential:
    """Return the blocks of one stage, from ``given`` channels to ``made``."""
    projection = None
    if stride != 1 or given != made:
        projection = nn.Sequential(nn.Conv2d(given, made, 1, stride, bias=False), nn.BatchNorm2d(made))
    first = BasicBlock(given, made, "BN", stride=stride, downsample=projection)
    return nn.Sequential(first, *(BasicBlock(made, made, "BN") for _ in range(BLOCKS - 1)))


@BACKBONE_REGISTRY.register()
def build_narrow_resnet_backbone(cfg: CfgNode) -> NarrowResNet18:
    """Return a :class:`NarrowResNet18` of MODEL.BACKBONE.FEAT_DIM channels.

    Raises:
        UserError: if FEAT_DIM is no multiple of 8, or ImageNet weights are asked for: there are none.
    """
    backbone = cfg.MODEL.BACKBONE
    if backbone.PRETRAIN:
        raise UserError(
            "MODEL.BACKBONE.PRETRAIN must be False with build_narrow_resnet_backbone, for which there are no "
            "ImageNet weights, got True"
        )
    try:
        return NarrowResNet18(backbone.FEAT_DIM, backbone.LAST_STRIDE)
    except ValueError as error:
        raise UserError(f"MODEL.BACKBONE.FEAT_DIM: {error}") from error
