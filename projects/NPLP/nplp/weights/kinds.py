"""Which network the names and shapes of weights belong to, in words that people use."""

import re
from collections.abc import Callable, Mapping

__all__ = ["Shapes", "network_of"]

Shapes = Mapping[str, tuple[int, ...]]
"""The shape of each tensor by its name."""

OSNET_WIDTHS = {64: "x1_0", 48: "x0_75", 32: "x0_5", 16: "x0_25"}
RESNET_DEPTHS: dict[tuple[bool, tuple[int, ...]], int] = {
    (False, (2, 2, 2, 2)): 18,
    (False, (3, 4, 6, 3)): 34,
    (True, (3, 4, 6, 3)): 50,
    (True, (3, 4, 23, 3)): 101,
    (True, (3, 8, 36, 3)): 152,
}
"""By whether a block has three convolutions, and by the blocks of each stage."""


def network_of(shapes: Shapes) -> str:
    """Return the network that weights belong to, such as "ResNet-50"; empty where it is not known.

    Args:
        shapes: under any prefix, with or without a head.
    """
    for mark, name in NETWORKS:
        marked = next((key for key in shapes if key == mark or key.endswith(f".{mark}")), None)
        if marked is not None:
            prefix = marked.removesuffix(mark)
            inner = {key[len(prefix) :]: shape for key, shape in shapes.items() if key.startswith(prefix)}
            return name if isinstance(name, str) else name(inner)
    return ""


def _count(shapes: Shapes, pattern: str) -> int:
    """Return how many different numbers ``pattern``, with one group, finds in the names."""
    return len({match[1] for key in shapes if (match := re.match(pattern, key))})


def _osnet(shapes: Shapes) -> str:
    width = shapes.get("conv1.conv.weight", (0,))[0]
    instance_norm = "-IBN" if "conv2.0.IN.weight" in shapes else ""
    return f"OSNet{instance_norm} {OSNET_WIDTHS.get(width, f'of {width} channels')}"


def _resnet(shapes: Shapes) -> str:
    blocks = tuple(_count(shapes, rf"layer{stage}\.(\d+)\.") for stage in range(1, 5))
    three = "layer1.0.conv3.weight" in shapes
    depth = RESNET_DEPTHS.get((three, blocks), f"of {'-'.join(map(str, blocks))} blocks")
    middle = shapes.get("layer1.0.conv2.weight", (1, 1))
    family = "ResNeXt" if three and middle[0] != middle[1] else "ResNet"
    ibn = " IBN-a" if "layer1.0.bn1.IN.weight" in shapes else ""
    return f"{family}{'-' if isinstance(depth, int) else ' '}{depth}{ibn}"


def _mobilenet(shapes: Shapes) -> str:
    return f"MobileNetV2 of {shapes['features.0.0.weight'][0]} channels"


def _narrow_resnet(shapes: Shapes) -> str:
    return f"narrow ResNet-18 of {8 * shapes['stem.0.weight'][0]} channels"


def _vision_transformer(shapes: Shapes) -> str:
    blocks = _count(shapes, r"blocks\.(\d+)\.")
    return f"Vision Transformer of {blocks} blocks"


NETWORKS: tuple[tuple[str, str | Callable[[Shapes], str]], ...] = (
    ("conv2.0.conv2.0.layers.0.conv1.weight", "OSNet-AIN"),
    ("conv2.0.conv2a.conv1.weight", _osnet),
    ("visual.proj", "CLIP"),
    ("layer1.0.conv2.fc1.weight", "ResNeSt"),
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
