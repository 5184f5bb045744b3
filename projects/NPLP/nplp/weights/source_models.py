"""What model a file of weights is, and the options under which its embedding is the model's own.

Only content is looked at, names and shapes, and a ``config.yaml`` beside the file; no code of a file is run.
What weights do not show, such as the stride of the last stage, is decided here for each family and said.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from nplp.errors import UserError
from nplp.weights.files import read_weights_file
from nplp.weights.fitting import NORMALISATION, find_tensors, without_wrappers
from nplp.weights.kinds import TIMM, TOOLBOX_TRANSFORMER, Network, Shapes, find_network, shapes_of
from nplp.weights.own_heads import (
    EMBEDDING,
    NECK_FEATURE,
    POWER,
    RECTIFIED_FEATURE,
    head_options,
    in_our_names,
    own_output,
)
from nplp.weights.recorded import recorded_options
from nplp.weights.zoo import CONFIG, SUMS, WEIGHTS, ZOO_PREFIX, find_bundle, read_bundle

__all__ = ["IMAGENET_ONLY", "SourceModel", "recognise"]

IMAGENET_ONLY = "ImageNet only: expect little before adaptation"
IMAGENET_CLASSES = (1000, 21841, 21843)

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
"""ImageNet's, in 0..255, of all families but timm's transformers."""
MIDDLE = [127.5, 127.5, 127.5]
"""Mean and deviation of timm's transformers that were trained on ImageNet-21k."""

OURS = ("heads.neck.", "heads.hyper_network.", "heads.pooling.", "heads.classifier.weight")
FASTREID = re.compile(r"heads\.(?:bottleneck|bnneck|pool_layer|cls_layer|classifier|weight$)")
BRANCHES = re.compile(r"(?:^|\.)(?:b[123]\.\d+\.|b\d+_head\.)")
CLASSIFIER = re.compile(
    r"(?:heads\.(?:(?:classifier|cls_layer)\.)?weight|(?:classifier|fc|head)(?:\.1)?\.weight)$"
)
STRIDED = ("build_resnet_backbone", "build_resnext_backbone", "build_resnest_backbone")
"""Builders with an option LAST_STRIDE that weights do not show."""

SHOWN = tuple(
    f"MODEL.{key}"
    for key in (
        "BACKBONE.NAME",
        "BACKBONE.FEAT_DIM",
        "BACKBONE.WITH_IBN",
        "BACKBONE.WITH_SE",
        "BACKBONE.WITH_NL",
    )
)
"""Keys that weights show: a configuration that says otherwise is another model's."""


@dataclass(frozen=True)
class SourceModel:
    """A source model that a file of weights holds.

    Attributes:
        description: one line: family, network, head and the number of training identities.
        options: dotted keys of the configuration, and their values, that build it; over the defaults they are
            enough for ``NPLP.SOURCE.WEIGHTS`` and ``MODEL.WEIGHTS`` to take the file.
        embedding: what its feature is.
        notes: what weights do not show and was decided, a clause each.
        weights: the file to give; that of a bundle where its folder was named.
        own_head: whether the file has weights of a head, which its options of MODEL.HEADS then fit; else
            these are a choice.
    """

    description: str
    options: dict[str, Any]
    embedding: str
    notes: tuple[str, ...] = ()
    weights: str = ""
    own_head: bool = True


@dataclass(frozen=True)
class _Model:
    """What a family is known by.

    Attributes:
        family: who made it.
        head: options of MODEL.HEADS, without the section.
        notes: of what was decided.
        imagenet: whether it was trained on ImageNet alone.
        stride: of the last stage, as the family trains it.
        pixels: options of the images' means and deviations.
        own_head: whether weights of the head are in the file.
    """

    family: str
    head: dict[str, Any]
    notes: tuple[str, ...] = ()
    imagenet: bool = False
    stride: int = 1
    pixels: dict[str, Any] = field(default_factory=lambda: {"MODEL.PIXEL_MEAN": MEAN, "MODEL.PIXEL_STD": STD})
    own_head: bool = True


def recognise(path: str) -> SourceModel:
    """Return the source model that a file holds.

    Args:
        path: a file of ``torch.save`` or of safetensors, a bundle's folder, or ``zoo://NAME``.

    Raises:
        UserError: in one line that says what the file is instead, if it cannot be read, is of a network that
            is not supported, or of none that is known.
    """
    path, config = _find(path)
    content = read_weights_file(path)
    if not isinstance(content, dict):
        raise UserError(f"{path!r} holds a {type(content).__name__}, not a dictionary of weights")
    tensors = without_wrappers(find_tensors(content, path)[0], {}, path)
    recorded = recorded_options(config) if config else {}
    network = _network(shapes_of(tensors), path, recorded)
    start = re.sub(r"backbone\.(?:network\.)?$", "", network.prefix)
    named = {name[len(start) :]: value for name, value in tensors.items() if name.startswith(start)}
    model = _model(network, shapes_of(named))
    model = replace(model, pixels={**model.pixels, **_normalisation(named)})
    options = {f"MODEL.BACKBONE.{key}": value for key, value in network.options.items()}
    if other := next(
        (key for key in SHOWN if key in options and recorded.get(key, options[key]) != options[key]), ""
    ):
        note = f"{CONFIG} beside it is another model's ({other} {recorded[other]!r}) and is not followed"
        model, recorded = replace(model, notes=(*model.notes, note)), {}
    return _describe(path, network, model, _identities(shapes_of(named)), recorded)


def _find(path: str) -> tuple[str, Path | None]:
    """Return the file of weights, and the configuration beside it where there is one."""
    if path.startswith(ZOO_PREFIX):
        bundle = find_bundle(path.removeprefix(ZOO_PREFIX))
    elif (Path(path) / SUMS).is_file():
        bundle = read_bundle(Path(path))
    else:
        beside = Path(path).parent / CONFIG
        return path, beside if beside.is_file() else None
    return str(bundle.path(WEIGHTS)), bundle.path(CONFIG)


def _network(shapes: Shapes, path: str, recorded: Mapping[str, Any]) -> Network:
    """Return the backbone.

    Raises:
        UserError: if it is not known, or this project cannot build it.
    """
    if any(BRANCHES.search(key) for key in shapes):
        raise UserError(
            f"{path!r} holds fastreid's MGN, whose branches this project has not: give a model of one "
            "branch, such as BoT, AGW or SBS"
        )
    network = find_network(shapes)
    if network is None or not network.options:
        if "MODEL.BACKBONE.NAME" in recorded and any(key.startswith("backbone.") for key in shapes):
            return _recorded_network(recorded)
        examples = ", ".join(sorted(shapes)[:3])
        held = network.name if network else f"an unknown network ({examples})"
        raise UserError(
            f"{path!r} holds {held}, which is not supported: docs/weights.md names the networks that are"
        )
    if network.prefix.endswith("network."):
        depth = network.options["DEPTH"].removesuffix("x")
        name = depth if network.options["NAME"] == TIMM else f"resnet{depth}"
        options = {"NAME": TIMM, "DEPTH": name, "FEAT_DIM": network.options["FEAT_DIM"]}
        return replace(network, options=options)
    if network.prefix.endswith("backbone.") and network.options["NAME"] == TIMM:
        # The toolbox's transformer has timm's names; it has two sizes, both of 768 channels.
        options = {"NAME": TOOLBOX_TRANSFORMER, "DEPTH": "base", "FEAT_DIM": 768}
        return replace(network, options=options)
    return network


def _recorded_network(recorded: Mapping[str, Any]) -> Network:
    """Return the backbone that a configuration names, of a kind that weights are not known by."""
    start = "MODEL.BACKBONE."
    options = {key.removeprefix(start): value for key, value in recorded.items() if key.startswith(start)}
    return Network(f"{options['NAME']} {options.get('DEPTH', '')}".strip(), "backbone.", options)


def _model(network: Network, shapes: Shapes) -> _Model:
    """Return whose model it is and its head."""
    if any(key.startswith(OURS[:3]) for key in shapes):
        return _of_this_project(network, shapes)
    if any(FASTREID.match(key) for key in shapes):
        return _of_fastreid(network, shapes)
    return _of_others(network, shapes)


def _of_this_project(network: Network, shapes: Shapes) -> _Model:
    head = {"PAP": 2, "OUTPUT": EMBEDDING, **head_options(shapes, network.options["FEAT_DIM"])}
    note = "weights do not show MODEL.HEADS.OUTPUT: f_e is the paper's"
    return _Model("a checkpoint of this project", head, (note,))


def _of_fastreid(network: Network, shapes: Shapes) -> _Model:
    """Return a model of fastreid's zoo: BoT, AGW or SBS, on whatever network."""
    non_local, trained = network.options.get("WITH_NL", False), POWER in in_our_names(shapes)
    recipe = ("AGW or SBS" if trained else "AGW") if non_local else "SBS" if trained else "BoT"
    notes = []
    head = {**_own_head(network, shapes), "NECK_BIAS": False}
    if non_local and not trained:
        head["POOLING"] = "gem"
        notes.append("weights without p do not show MODEL.HEADS.POOLING: gem with p = 3 is AGW's")
    elif not trained and network.options["NAME"] != TOOLBOX_TRANSFORMER:
        notes.append("weights without p do not show MODEL.HEADS.POOLING: average, unless set to gem")
    if trained:
        notes.append("SBS is trained with images of 384 x 128, where INPUT.SIZE_TEST [384, 128] is its own")
    return _Model(f"fastreid {recipe}", head, tuple(notes))


def _of_others(network: Network, shapes: Shapes) -> _Model:
    """Return torchreid's, torchvision's or timm's model, or a backbone alone."""
    classes = _identities(shapes)
    imagenet = classes in IMAGENET_CLASSES
    family = re.split("[- ]", network.name)[0]
    own = _own_head(network, shapes)
    if own["OUTPUT"] != EMBEDDING:
        return _Model("torchreid", own, imagenet=imagenet, stride=2)
    if network.options["NAME"] == TIMM:
        note = (
            "MODEL.PIXEL_MEAN and PIXEL_STD are those of timm's ImageNet-21k weights: for DeiT and DINO set "
            f"{MEAN} and {STD}"
        )
        pixels = {"MODEL.PIXEL_MEAN": MIDDLE, "MODEL.PIXEL_STD": MIDDLE}
        return _Model("timm", _pooled(), (note,), imagenet, pixels=pixels, own_head=False)
    if family == "ResNet" and "classifier.weight" in shapes:
        # torchreid's embedding is the pooled map itself.
        return _Model("torchreid", {**_pooled(), "PAP": 1}, imagenet=imagenet, stride=2, own_head=False)
    if imagenet:
        whose = "torchvision or timm" if family != "OSNet" else "torchreid"
        return _Model(whose, _pooled(), imagenet=True, own_head=False)
    return _Model("a backbone without its head", _pooled(), own_head=False)


def _pooled() -> dict[str, Any]:
    """Return the head of a network that has none of its own: its pooled feature map."""
    return {"PAP": 2, "POOLING": "average", "FUSION": "concat", "OUTPUT": EMBEDDING}


def _own_head(network: Network, shapes: Shapes) -> dict[str, Any]:
    """Return the head of another project: it pools the whole map."""
    head = head_options(in_our_names(shapes), network.options["FEAT_DIM"])
    return {**head, "PAP": 1, "OUTPUT": own_output(shapes)}


def _describe(
    path: str, network: Network, model: _Model, identities: int, recorded: Mapping[str, Any]
) -> SourceModel:
    """Return the model in words and its options, with what is recorded of it."""
    options = {
        "MODEL.META_ARCHITECTURE": "NPLP",
        "MODEL.HEADS.NAME": "PAPHead",
        **{f"MODEL.BACKBONE.{key}": value for key, value in network.options.items()},
        **{f"MODEL.HEADS.{key}": value for key, value in model.head.items()},
        **model.pixels,
    }
    notes = list(model.notes)
    if options["MODEL.BACKBONE.NAME"] in STRIDED:
        options["MODEL.BACKBONE.LAST_STRIDE"] = model.stride
        whose = "re-identification's" if model.stride == 1 else f"{model.family}'s"
        notes.append(f"weights do not show MODEL.BACKBONE.LAST_STRIDE: {model.stride} is {whose}")
    if recorded:
        notes = [note for note in notes if not any(key in note for key in recorded)]
        notes.append(f"{CONFIG} beside it says what weights do not show")
    options.update(recorded)
    layers, width = _layers(options)
    trained = (
        IMAGENET_ONLY if model.imagenet else f"trained with {identities} identities" if identities else ""
    )
    description = ", ".join(filter(None, (model.family, network.name, layers, trained)))
    embedding = f"{options['MODEL.HEADS.OUTPUT']}, {width} values: {layers}"
    return SourceModel(description, options, embedding, tuple(notes), path, model.own_head)


def _layers(options: Mapping[str, Any]) -> tuple[str, int]:
    """Return a head in words, and the size of its feature."""
    granularities = options["MODEL.HEADS.PAP"]
    text = "GeM pooling" if options["MODEL.HEADS.POOLING"] == "gem" else "average pooling"
    width = options["MODEL.BACKBONE.FEAT_DIM"] * granularities * (granularities + 1) // 2
    if granularities > 1:
        text += f" in {granularities} granularities"
    if options["MODEL.HEADS.FUSION"] == "hn":
        width = options["MODEL.HEADS.EMBEDDING_DIM"]
        text += f", a fully connected layer of {width}"
    necks = {NECK_FEATURE: ", BN neck", RECTIFIED_FEATURE: ", BN neck and ReLU"}
    return text + necks.get(options["MODEL.HEADS.OUTPUT"], ""), width


def _identities(shapes: Shapes) -> int:
    """Return how many classes the file's classifier has; 0 without one."""
    sizes = [shape[0] for key, shape in shapes.items() if CLASSIFIER.match(key) and len(shape) == 2]
    return sizes[0] if sizes else 0


def _normalisation(tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Return the options of the means and deviations of pixels that a file holds."""
    return {
        f"MODEL.{name.upper()}": [round(value, 4) for value in tensors[name].flatten().double().tolist()]
        for name in NORMALISATION
        if name in tensors and tensors[name].numel() == 3
    }
