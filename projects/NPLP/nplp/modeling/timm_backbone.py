"""timm's networks as backbones: convolutional ones and vision transformers, as feature maps [B, C, H', W'].

Shapes: B images in the batch, C channels, H x W pixels.
"""

import functools
import importlib
from typing import Any

import torch
from fastreid.config import CfgNode
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from torch import nn

from nplp.errors import UserError, in_one_line

__all__ = ["TimmBackbone", "build_timm_backbone"]

NAME = "MODEL.BACKBONE.DEPTH"
MOST_PARAMETERS = 350_000_000
"""Of a network before it is built: ViT-L has 304 million, in 1.2 GB."""
REFUSED = (RuntimeError, ValueError, TypeError, AssertionError, AttributeError, KeyError)
"""What timm raises for a name that it has not, or a size that the network cannot take."""


class TimmBackbone(nn.Module):
    """A network of timm without its classifier: images [B, 3, H, W] to a feature map.

    A vision transformer's map is that of its patch tokens, [B, C, H/P, W/P] with patches of P x P pixels; its
    class token takes part in the attention and is left out of the map. Its position embeddings are for one
    size of images; :meth:`fit_tensor` interpolates a file's, as timm does.

    Args:
        name: timm's, such as ``vit_small_patch16_224``.
        size: H and W of all images, for networks that have one size.

    Raises:
        UserError: if timm is not installed or has no such network, or it cannot take images of that size, or
            is too large.
    """

    def __init__(self, name: str, size: tuple[int, int]) -> None:
        super().__init__()
        timm = _timm()
        self.network: Any = _create(timm, name, size)
        self.prefix_tokens: int = getattr(self.network, "num_prefix_tokens", 0)
        self.channels_last: bool = getattr(self.network, "output_fmt", "NCHW") == "NHWC"

    @property
    def grid(self) -> tuple[int, int] | None:
        """H/P and W/P of a vision transformer; ``None`` of other networks."""
        patches = getattr(self.network, "patch_embed", None)
        return getattr(patches, "grid_size", None)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the feature map of ``images``."""
        features: torch.Tensor = self.network.forward_features(images)
        if features.dim() == 3 and self.grid is not None:
            tokens = features[:, self.prefix_tokens :].transpose(1, 2)
            return tokens.unflatten(2, self.grid)
        if self.channels_last and features.dim() == 4:
            return features.permute(0, 3, 1, 2)
        return features

    def fit_tensor(self, key: str, value: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Return a file's tensor in the form that the network takes: position embeddings of its grid.

        Args:
            key: the tensor's name in the model.
            value: the file's tensor.
            wanted: the network's.
        """
        embeddings = key.endswith("pos_embed") and value.dim() == 3
        if not embeddings or value.shape == wanted.shape or self.grid is None:
            return value
        tokens = 0 if getattr(self.network, "no_embed_class", False) else self.prefix_tokens
        side = round((value.shape[1] - tokens) ** 0.5)
        if side**2 != value.shape[1] - tokens:
            return value
        layers: Any = importlib.import_module("timm.layers")
        resized: torch.Tensor = layers.resample_abs_pos_embed(
            value, new_size=list(self.grid), old_size=[side, side], num_prefix_tokens=tokens
        )
        return resized


def _timm() -> Any:
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise UserError(
            f"MODEL.BACKBONE.NAME build_timm_backbone needs timm ({in_one_line(error)}): "
            "pip install 'nplp[timm]'"
        ) from error


def _create(timm: Any, name: str, size: tuple[int, int]) -> nn.Module:
    """Return a network with initial weights; nothing is downloaded."""
    if not timm.is_model(name):
        near = timm.list_models(f"*{name.split('_')[0]}*")[:4]
        known = f", such as {', '.join(near)}" if near else ""
        raise UserError(f"{NAME} must be a network of timm, got {name!r}: see timm.list_models(){known}")
    create = functools.partial(timm.create_model, name, pretrained=False, num_classes=0, global_pool="")
    try:
        # Convolutional networks take any size, and no such argument.
        if not _takes_any_size(timm, name):
            create = functools.partial(create, img_size=size)
        with torch.device("meta"):
            network = create()
        parameters = sum(parameter.numel() for parameter in network.parameters())
        if parameters > MOST_PARAMETERS:
            raise UserError(
                f"{NAME} {name} has {parameters:,} parameters, of at most {MOST_PARAMETERS:,}: choose a "
                "smaller network"
            )
        network = create()
    except UserError:
        raise
    except REFUSED as error:
        raise UserError(
            f"{NAME} {name} cannot be built for images of {size[0]}x{size[1]} ({in_one_line(error)}): set "
            "INPUT.SIZE_TRAIN and SIZE_TEST to multiples of its patches, or choose another network"
        ) from error
    if not hasattr(network, "forward_features"):
        raise UserError(f"{NAME} {name} gives no feature map: choose another network of timm")
    return network


def _takes_any_size(timm: Any, name: str) -> bool:
    return not timm.get_pretrained_cfg(name).fixed_input_size


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg: CfgNode) -> TimmBackbone:
    """Return the network of timm that MODEL.BACKBONE.DEPTH names, for images of INPUT.SIZE_TRAIN.

    Raises:
        UserError: as :class:`TimmBackbone`, if a transformer would see images of two sizes, or if ImageNet
            weights are asked for without a file.
    """
    backbone = cfg.MODEL.BACKBONE
    if backbone.PRETRAIN:
        raise UserError(
            "MODEL.BACKBONE.PRETRAIN_PATH must name a file with build_timm_backbone, for which none is "
            f"downloaded, got {backbone.PRETRAIN_PATH!r}: give one, or set MODEL.BACKBONE.PRETRAIN False"
        )
    size = (int(cfg.INPUT.SIZE_TRAIN[0]), int(cfg.INPUT.SIZE_TRAIN[1]))
    network = TimmBackbone(backbone.DEPTH, size)
    if network.grid is not None and tuple(cfg.INPUT.SIZE_TEST) != size:
        raise UserError(
            f"{NAME} {backbone.DEPTH} takes images of one size: set INPUT.SIZE_TEST to INPUT.SIZE_TRAIN "
            f"{list(size)}, got {list(cfg.INPUT.SIZE_TEST)}"
        )
    return network
