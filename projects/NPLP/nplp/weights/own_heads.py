"""What follows a backbone in other projects' models, as the head that this project has for it.

Their pooling's power, fully connected layer and BN neck become ``heads.pooling.p``,
``heads.hyper_network.fc.*`` and ``heads.neck.0.*``. A whole head is taken or none: half of one would be
neither the file's embedding nor ours.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch

from nplp.weights.kinds import Shapes

__all__ = [
    "BIAS",
    "EMBEDDING",
    "LINEAR",
    "NECK_FEATURE",
    "NECK_NORM",
    "POWER",
    "RECTIFIED_FEATURE",
    "head_names",
    "head_options",
    "in_our_names",
    "own_head",
    "own_output",
]

EMBEDDING, NECK_FEATURE, RECTIFIED_FEATURE = "f_e", "f_bn", "f_r"
"""Values of MODEL.HEADS.OUTPUT."""

POWER = "heads.pooling.p"
LINEAR = "heads.hyper_network.fc.weight"
BIAS = "heads.hyper_network.fc.bias"
NECK_NORM = "heads.neck.0."

_NORM = r"(weight|bias|running_mean|running_var|num_batches_tracked)$"
_FASTREID_NORM = re.compile(rf"heads\.(?:bnneck|bottleneck\.(\d))\.{_NORM}")
_FASTREID_LINEAR = "heads.bottleneck.0.weight"
_TORCHREID_LINEAR = re.compile(r"((?:backbone\.)?fc\.)0\.(weight|bias)$")
_TORCHREID_NORM = re.compile(rf"(?:backbone\.)?fc\.1\.{_NORM}")


def head_names(dimensions: Mapping[str, int]) -> dict[str, str]:
    """Return ``{name: our name}`` of the tensors of a head that this project can have.

    Args:
        dimensions: how many dimensions each tensor of a file has, by its name; those of the backbone may be
            among them.
    """
    names: dict[str, str] = {}
    reduced = dimensions.get(_FASTREID_LINEAR, 1) > 1
    torchreid = any(_TORCHREID_NORM.match(key) for key in dimensions)
    for key in dimensions:
        if key == "heads.pool_layer.p":
            names[key] = POWER
        elif key == _FASTREID_LINEAR and reduced:
            names[key] = LINEAR
        elif (norm := _FASTREID_NORM.match(key)) and norm[1] in (None, "1" if reduced else "0"):
            names[key] = NECK_NORM + norm[2]
        elif torchreid and (linear := _TORCHREID_LINEAR.match(key)):
            names[key] = LINEAR if linear[2] == "weight" else BIAS
        elif torchreid and (norm := _TORCHREID_NORM.match(key)):
            names[key] = NECK_NORM + norm[1]
    return names


def in_our_names(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """Return shapes with those of a head that this project can have under our names."""
    ours = head_names({key: len(shape) for key, shape in shapes.items()})
    return {
        ours.get(key, key): shape[:2] if ours.get(key) == LINEAR else shape for key, shape in shapes.items()
    }


def own_output(shapes: Shapes) -> str:
    """Return what MODEL.HEADS.OUTPUT is the embedding of another project's model; "f_e" without its head.

    A BN neck's output is fastreid's embedding; torchreid's ends with a ReLU.
    """
    ours = head_names({key: len(shape) for key, shape in shapes.items()})
    if not any(name.startswith(NECK_NORM) for name in ours.values()):
        return EMBEDDING
    return NECK_FEATURE if any(key.startswith("heads.") for key in ours) else RECTIFIED_FEATURE


def own_head(
    tensors: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], *, neck: bool
) -> dict[str, tuple[str, torch.Tensor]]:
    """Return ``{name: (our name, tensor)}`` of what our head takes of a file's.

    A layer of 1 x 1 convolution becomes a matrix. The fully connected layer and the neck are taken together
    or not at all, as half of them would be neither the file's embedding nor ours.

    Args:
        tensors: of the file, by their names without prefixes.
        wanted: the model's ``state_dict()``.
        neck: whether they are taken, beside the power of the pooling.
    """
    taken: dict[str, tuple[str, torch.Tensor]] = {}
    fits = neck
    for name, ours in head_names({key: value.dim() for key, value in tensors.items()}).items():
        value = tensors[name].flatten(1) if ours == LINEAR else tensors[name]
        if ours in wanted and value.shape == wanted[ours].shape:
            taken[name] = (ours, value)
        elif ours != POWER:
            fits = False
    return {name: pair for name, pair in taken.items() if fits or pair[0] == POWER}


def head_options(shapes: Shapes, channels: int) -> dict[str, Any]:
    """Return the keys of MODEL.HEADS that make a head of our names; without the section.

    PAP is left out where the shapes do not show it: there is neither a fully connected layer nor a neck.

    Args:
        shapes: by our names.
        channels: C of the feature map.
    """
    linear, norm = shapes.get(LINEAR), shapes.get(f"{NECK_NORM}weight")
    options: dict[str, Any] = {"POOLING": "gem" if POWER in shapes else "average"}
    options["FUSION"] = "hn" if linear else "concat"
    if linear:
        options["EMBEDDING_DIM"] = linear[0]
    pooled = linear[1] if linear else norm[0] if norm else 0
    # I(I + 1) / 2 stripes of C values.
    granularities = (math.isqrt(8 * pooled // channels + 1) - 1) // 2
    if granularities and granularities * (granularities + 1) * channels == 2 * pooled:
        options["PAP"] = granularities
    return options
