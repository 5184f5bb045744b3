"""Which network the names and shapes of weights belong to, in words that people use and as options."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

__all__ = ["TIMM", "TOOLBOX_TRANSFORMER", "Network", "Shapes", "find_network", "network_of", "shapes_of"]

Shapes = Mapping[str, tuple[int, ...]]
"""The shape of each tensor by its name."""

TIMM = "build_timm_backbone"
TOOLBOX_TRANSFORMER = "build_vit_backbone"

OSNET_WIDTHS = {64: "x1_0", 48: "x0_75", 32: "x0_5", 16: "x0_25"}
RESNET_DEPTHS: dict[tuple[bool, tuple[int, ...]], int] = {
    (False, (2, 2, 2, 2)): 18,
    (False, (3, 4, 6, 3)): 34,
    (True, (3, 4, 6, 3)): 50,
    (True, (3, 4, 23, 3)): 101,
    (True, (3, 8, 36, 3)): 152,
    (True, (3, 24, 36, 3)): 200,
    (True, (3, 30, 48, 8)): 269,
}
"""By whether a block has three convolutions, and by the blocks of each stage."""

TOOLBOX_DEPTHS = {
    "ResNet": ("build_resnet_backbone", (18, 34, 50, 101)),
    "ResNeXt": ("build_resnext_backbone", (50, 101, 152)),
    "ResNeSt": ("build_resnest_backbone", (50, 101, 200, 269)),
}
"""The toolbox's builder of each family, and the depths that it has."""

MOBILENET_WIDTHS = {320: "1.0x", 240: "0.75x", 160: "0.5x", 112: "0.35x", 80: "0.25x", 32: "0.1x"}
"""By the channels before the last convolution."""

TRANSFORMER_SIZES = {(192, 12): "tiny", (384, 12): "small", (768, 12): "base", (1024, 24): "large"}
"""timm's names, by the channels and the blocks."""

UNUSUAL_TRANSFORMERS = {
    "blocks.0.ls1.gamma": "layer scale",
    "reg_token": "register tokens",
    "dist_token": "a distillation token",
    "norm_pre.weight": "a norm before its blocks",
    "blocks.0.attn.q_norm.weight": "norms of its queries",
    "blocks.0.mlp.w12.weight": "gated layers",
}
"""A tensor that plain vision transformers have not, and what it belongs to."""


@dataclass(frozen=True)
class Network:
    """A network that weights belong to.

    Attributes:
        name: such as "ResNet-50 IBN-a with non-local blocks".
        prefix: what stands before its own names.
        options: the keys of MODEL.BACKBONE that build it, without the section; none where this project
            cannot build it.
    """

    name: str
    prefix: str
    options: dict[str, Any] = field(default_factory=dict)


_Found = tuple[str, dict[str, Any]]
"""A network's name, and the options that build it."""


def shapes_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor by its name."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def find_network(shapes: Shapes) -> Network | None:
    """Return the network that weights belong to; ``None`` where it is not known.

    Args:
        shapes: under any prefix, with or without a head.
    """
    for mark, made in NETWORKS:
        marked = next((key for key in shapes if key == mark or key.endswith(f".{mark}")), None)
        if marked is not None:
            prefix = marked.removesuffix(mark)
            inner = {key[len(prefix) :]: shape for key, shape in shapes.items() if key.startswith(prefix)}
            name, options = (made, {}) if isinstance(made, str) else made(inner)
            return Network(name, prefix, options)
    return None


def network_of(shapes: Shapes) -> str:
    """Return the name of the network that weights belong to, such as "ResNet-50"; empty if not known.

    Args:
        shapes: under any prefix, with or without a head.
    """
    network = find_network(shapes)
    return network.name if network else ""


def _count(shapes: Shapes, pattern: str) -> int:
    """Return how many different numbers ``pattern``, with one group, finds in the names."""
    return len({match[1] for key in shapes if (match := re.match(pattern, key))})


def _osnet(shapes: Shapes) -> _Found:
    channels = shapes.get("conv1.conv.weight", (0,))[0]
    instance_norm = "conv2.0.IN.weight" in shapes
    width = OSNET_WIDTHS.get(channels)
    name = f"OSNet{'-IBN' if instance_norm else ''} {width or f'of {channels} channels'}"
    if width is None:
        return name, {}
    options = {"NAME": "build_osnet_backbone", "DEPTH": width, "WITH_IBN": instance_norm}
    return name, {**options, "FEAT_DIM": 8 * channels}


def _resnet(shapes: Shapes) -> _Found:
    blocks = tuple(_count(shapes, rf"layer{stage}\.(\d+)\.") for stage in range(1, 5))
    three = "layer1.0.conv3.weight" in shapes
    depth = RESNET_DEPTHS.get((three, blocks))
    grouped = three and len(set(shapes.get("layer1.0.conv2.weight", (1, 1))[:2])) > 1
    split = "layer1.0.conv2.fc1.weight" in shapes
    family = "ResNeSt" if split else "ResNeXt" if grouped else "ResNet"
    parts = {
        "WITH_IBN": ("layer1.0.bn1.IN.weight" in shapes, " IBN-a"),
        "WITH_SE": ("layer1.0.se.fc.0.weight" in shapes, " with SE blocks"),
        "WITH_NL": ("NL_2.0.g.weight" in shapes, " with non-local blocks"),
    }
    name = f"{family}-{depth}" if depth else f"{family} of {'-'.join(map(str, blocks))} blocks"
    # A stem of several convolutions is ResNeSt's own.
    plain = "conv1.weight" in shapes or split
    name += ("" if plain else " with a deep stem") + "".join(text for there, text in parts.values() if there)
    builder, depths = TOOLBOX_DEPTHS[family]
    if depth not in depths or not plain or shapes.get("NL_2.0.g.weight", (1,))[0] != 1:
        return name, {}
    options = {"NAME": builder, "DEPTH": f"{depth}x", "FEAT_DIM": 2048 if three else 512}
    switches = {"ResNet": tuple(parts), "ResNeXt": ("WITH_IBN", "WITH_NL"), "ResNeSt": ()}[family]
    return name, {**options, **{key: parts[key][0] for key in switches}}


def _mobilenet(shapes: Shapes) -> _Found:
    name = f"MobileNetV2 of {shapes['features.0.0.weight'][0]} channels"
    last = shapes.get("conv.0.weight") or shapes.get("features.18.0.weight") or (0, 0)
    width = MOBILENET_WIDTHS.get(last[1])
    if width is None or last[0] != 1280:
        return name, {}
    return name, {"NAME": "build_mobilenetv2_backbone", "DEPTH": width, "FEAT_DIM": 1280}


def _narrow_resnet(shapes: Shapes) -> _Found:
    if "stem.0.weight" not in shapes:
        return "a network in stages that is not known", {}
    channels = 8 * shapes["stem.0.weight"][0]
    name = f"narrow ResNet-18 of {channels} channels"
    return name, {"NAME": "build_narrow_resnet_backbone", "FEAT_DIM": channels}


def _vision_transformer(shapes: Shapes) -> _Found:
    """Return timm's transformer; under ``backbone.`` alone it may be the toolbox's, of the same names."""
    blocks = _count(shapes, r"blocks\.(\d+)\.")
    name = f"Vision Transformer of {blocks} blocks"
    patches = shapes.get("patch_embed.proj.weight", ())
    unusual = [text for mark, text in UNUSUAL_TRANSFORMERS.items() if mark in shapes]
    if unusual:
        name += f" with {unusual[0]}"
    size = TRANSFORMER_SIZES.get((patches[0], blocks)) if len(patches) == 4 else None
    if size is None or unusual or "cls_token" not in shapes or "blocks.0.attn.qkv.bias" not in shapes:
        return name, {}
    depth = f"vit_{size}_patch{patches[2]}_224"
    return f"{name} ({depth})", {"NAME": TIMM, "DEPTH": depth, "FEAT_DIM": patches[0]}


NETWORKS: tuple[tuple[str, str | Callable[[Shapes], _Found]], ...] = (
    ("conv2.0.conv2.0.layers.0.conv1.weight", "OSNet-AIN"),
    ("conv2.0.conv2a.conv1.weight", _osnet),
    ("visual.proj", "CLIP"),
    ("layer1.0.conv2.fc1.weight", _resnet),
    ("stages.0.0.conv1.weight", _narrow_resnet),
    ("layer1.0.conv1.weight", _resnet),
    ("features.1.block.0.0.weight", "MobileNetV3"),
    ("features.1.conv.0.weight", _mobilenet),
    ("features.1.conv.0.0.weight", _mobilenet),
    ("features.denseblock1.denselayer1.conv1.weight", "DenseNet"),
    ("stage2.0.branches.0.0.conv1.weight", "HRNet"),
    ("stage1.0.rbr_dense.conv.weight", "RepVGG"),
    ("first_conv.0.weight", "ShuffleNetV2"),
    ("s1.b1.f.a.weight", "RegNet"),
    ("layers.0.blocks.0.attn.qkv.weight", "Swin Transformer"),
    ("blocks.0.attn.qkv.weight", _vision_transformer),
)
"""A tensor that only one network has, and the network's name; the first that is found counts."""
