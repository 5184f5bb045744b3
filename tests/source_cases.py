"""Source models as other projects make them, with drawn weights, and their own embeddings.

The networks are the projects' own where these are installed: fastreid, torchvision, timm. torchreid's models
are built of fastreid's OSNet, whose layers and names are the same, and its head.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from fastreid.config import get_cfg
from fastreid.modeling.backbones import build_backbone
from fastreid.modeling.meta_arch import build_model
from torch import nn

from nplp.config import default_config
from nplp.engine.checkpoint import load_weights
from nplp.engine.pipeline import CLASSIFIER
from nplp.weights.source_models import SourceModel

IMAGES = torch.rand(2, 3, 64, 32, generator=torch.Generator().manual_seed(0)) * 255
Embed = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Made:
    """A model of another project: what its file holds, and its own embedding of images in 0..255."""

    content: dict[str, Any]
    embed: Embed


def draw(model: nn.Module, seed: int = 0, gain: float = 0.5) -> nn.Module:
    """Draw norms too, so that no layer is nearly the identity; ``gain`` is the least of their weights."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.state_dict().items():
        if value.is_floating_point() and value.dim() == 1 and not name.endswith("pool_layer.p"):
            low = {"running_var": 0.5, "weight": gain}.get(name.rpartition(".")[2], -0.2)
            value.copy_(low + 0.5 * torch.rand(value.shape, generator=generator))
        elif name.endswith(".p"):
            value.fill_(2.5)
    return model.eval()


def fastreid(seed: int = 0, **options: Any) -> Made:
    """Return the toolbox's own model of ``BACKBONE__DEPTH=...`` and other keys of MODEL; BoT by default."""
    cfg = get_cfg()
    given = {
        "DEVICE": "cpu",
        "BACKBONE__DEPTH": "18x",
        "BACKBONE__FEAT_DIM": 512,
        "HEADS__NUM_CLASSES": 751,
        "HEADS__WITH_BNNECK": True,
        "HEADS__POOL_LAYER": "GlobalAvgPool",
        **options,
    }
    for name, value in given.items():
        cfg.merge_from_list([f"MODEL.{name.replace('__', '.')}", value])
    torch.manual_seed(seed)
    # Its many layers without a shortcut would let images vanish.
    model = draw(build_model(cfg), seed, 1.0 if "mobilenet" in given.get("BACKBONE__NAME", "") else 0.5)
    return Made({"model": model.state_dict(), "epoch": 60}, lambda images: model({"images": images.clone()}))


class TorchreidOSNet(nn.Module):
    """torchreid's OSNet: the network, average pooling, and a layer of a matrix, a batch norm and a ReLU."""

    def __init__(self, width: str, channels: int, classes: int, instance_norm: bool) -> None:
        super().__init__()
        cfg = get_cfg()
        cfg.merge_from_list(["MODEL.BACKBONE.DEPTH", width, "MODEL.BACKBONE.WITH_IBN", instance_norm])
        cfg.merge_from_list(["MODEL.BACKBONE.NAME", "build_osnet_backbone"])
        self.network = build_backbone(cfg)
        self.fc = nn.Sequential(nn.Linear(channels, 512), nn.BatchNorm1d(512), nn.ReLU())
        self.classifier = nn.Linear(512, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.network(images).mean((2, 3)))


def torchreid_osnet(
    width: str = "x0_25", channels: int = 128, classes: int = 1041, instance_norm: bool = False
) -> Made:
    """Return torchreid's OSNet as its zoo's files hold it."""
    torch.manual_seed(0)
    model = draw(TorchreidOSNet(width, channels, classes, instance_norm))
    weights = {key.removeprefix("network."): value for key, value in model.state_dict().items()}
    return Made({"state_dict": {f"module.{key}": value for key, value in weights.items()}}, normalised(model))


def normalised(model: Embed) -> Embed:
    """Return a model behind ImageNet's means and deviations of images in 0..255."""
    cfg = get_cfg()
    mean, std = (torch.tensor(cfg.MODEL[f"PIXEL_{name}"]).view(1, 3, 1, 1) for name in ("MEAN", "STD"))
    return lambda images: model((images - mean) / std)


def save(made: Made, path: Path) -> str:
    """Write a model's file and return its path."""
    torch.save(made.content, path)
    return str(path)


def build(source: SourceModel, **options: Any) -> Any:
    """Return our model by the recognised options alone, for evaluation, with the file's weights."""
    cfg = default_config()
    small = {"INPUT.SIZE_TRAIN": [64, 32], "INPUT.SIZE_TEST": [64, 32]}
    fixed = {"MODEL.DEVICE": "cpu", "MODEL.LOSSES.NAME": ()}
    for key, value in {**fixed, **source.options, **small, **options}.items():
        cfg.merge_from_list([key, value])
    torch.manual_seed(7)
    model = build_model(cfg).eval()
    load_weights(model, source.weights, optional=CLASSIFIER)
    return model


@torch.no_grad()
def assert_same_embedding(made: Made, model: nn.Module) -> None:
    """Compare with the other project's own embedding."""
    expected = made.embed(IMAGES)
    scale = float(expected.abs().max())
    torch.testing.assert_close(model(IMAGES.clone()), expected, rtol=1e-5, atol=1e-5 * scale)
    assert float(expected.std(0).max()) > 1e-3, "the images must differ in it"
