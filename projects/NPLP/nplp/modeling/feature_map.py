"""A dry run that finds a backbone and a head that do not fit before any training starts."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from fastreid.config import CfgNode
from torch import nn

from nplp.errors import UserError

__all__ = ["check_feature_map", "feature_map_rows"]


def check_feature_map(cfg: CfgNode, backbone: nn.Module) -> None:
    """Check the backbone's feature map of one zero image of INPUT.SIZE_TRAIN against the head's options.

    Leaves weights, batch-norm statistics, training modes and random states as they are. Costs one forward
    pass of one image.

    Args:
        cfg: the configuration, of which it reads MODEL.BACKBONE.NAME and FEAT_DIM, MODEL.HEADS.PAP and
            INPUT.SIZE_TRAIN.
        backbone: built from that configuration, on any device.

    Raises:
        UserError: if the output is no feature map [B, C, H, W], if C is not FEAT_DIM, or if it has fewer
            than PAP rows; naming the backbone, the shape seen and the key to set.
    """
    height, width = cfg.INPUT.SIZE_TRAIN
    feature_map = _zero_image_output(backbone, height, width)
    name, source = cfg.MODEL.BACKBONE.NAME, f"an image of {height}x{width}"
    if not isinstance(feature_map, torch.Tensor) or feature_map.dim() != 4:
        seen = (
            f"shape {tuple(feature_map.shape)}"
            if isinstance(feature_map, torch.Tensor)
            else f"a {type(feature_map).__name__}"
        )
        raise UserError(
            f"{name} gives {seen} for {source}, not a feature map [B, C, H, W]: set MODEL.BACKBONE.NAME to "
            "a backbone that does"
        )
    shape, (_, channels, rows, _) = tuple(feature_map.shape), feature_map.shape
    if channels != cfg.MODEL.BACKBONE.FEAT_DIM:
        raise UserError(
            f"{name} gives a feature map of shape {shape} for {source}: set MODEL.BACKBONE.FEAT_DIM to "
            f"{channels}, got {cfg.MODEL.BACKBONE.FEAT_DIM}"
        )
    if rows < cfg.MODEL.HEADS.PAP:
        raise UserError(
            f"{name} gives a feature map of shape {shape}, {rows} row(s), for {source}: set MODEL.HEADS.PAP "
            f"to at most {rows}, got {cfg.MODEL.HEADS.PAP}"
        )


def feature_map_rows(cfg: CfgNode, backbone: nn.Module) -> int:
    """Return H of the feature map of an image of INPUT.SIZE_TRAIN, whose backbone has been checked.

    Changes nothing, as :func:`check_feature_map`.
    """
    feature_map = _zero_image_output(backbone, *cfg.INPUT.SIZE_TRAIN)
    assert isinstance(feature_map, torch.Tensor)
    return feature_map.shape[2]


@torch.no_grad()
def _zero_image_output(backbone: nn.Module, height: int, width: int) -> object:
    parameter = next(backbone.parameters(), torch.empty(0))
    image = torch.zeros(1, 3, height, width, device=parameter.device, dtype=parameter.dtype)
    devices = [parameter.device] if parameter.is_cuda else []
    with _evaluation_mode(backbone), torch.random.fork_rng(devices):
        return backbone(image)


@contextmanager
def _evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put ``module`` into evaluation mode and every submodule back into its own mode afterwards."""
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for child, training in modes:
            child.training = training
