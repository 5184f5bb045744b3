"""A configuration of a small model, and a backbone of one convolution."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import nplp  # noqa: F401  first: it bridges the toolbox


@pytest.fixture
def make_cfg() -> Callable[..., Any]:
    """Return a builder of configurations: 64x32 images, 18x backbone, 16-d embedding, ``KEY=value``s."""
    from fastreid.config import get_cfg

    from nplp.config import add_nplp_config

    def make(**options: Any) -> Any:
        cfg = get_cfg()
        add_nplp_config(cfg)
        defaults = {
            "MODEL.DEVICE": "cpu",
            "MODEL.META_ARCHITECTURE": "NPLP",
            "MODEL.BACKBONE.DEPTH": "18x",
            "MODEL.BACKBONE.FEAT_DIM": 512,
            "MODEL.HEADS.NAME": "PAPHead",
            "MODEL.HEADS.EMBEDDING_DIM": 16,
            "MODEL.LOSSES.NAME": ("TripletLoss", "CenterContrastiveLoss"),
            "INPUT.SIZE_TRAIN": [64, 32],
        }
        merged = {**defaults, **{key.replace("__", "."): value for key, value in options.items()}}
        cfg.merge_from_list([item for pair in merged.items() for item in pair])
        return cfg

    return make


@pytest.fixture
def tiny_backbone() -> nn.Module:
    """A backbone of one strided convolution and a batch norm: [B, 3, 16, 8] to [B, 5, 4, 2]."""
    return nn.Sequential(nn.Conv2d(3, 5, 4, stride=4), nn.BatchNorm2d(5), nn.ReLU())


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Six images of 16 x 8 of three identities."""
    images = torch.rand(6, 3, 16, 8, generator=torch.Generator().manual_seed(0)) * 255
    return {"images": images, "targets": torch.tensor([0, 0, 1, 1, 2, 2])}
