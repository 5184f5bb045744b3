"""Layers of section III-D, pyramidal average pooling and the hyper-network, and batch norms over groups."""

from .grouped_norm import (
    GroupedBatchNorm,
    GroupedBatchNorm1d,
    GroupedBatchNorm2d,
    NormGroups,
    group_batch_norms,
)
from .hyper_network import HyperNetwork
from .pyramidal_pooling import PyramidalAveragePooling

__all__ = [
    "GroupedBatchNorm",
    "GroupedBatchNorm1d",
    "GroupedBatchNorm2d",
    "HyperNetwork",
    "NormGroups",
    "PyramidalAveragePooling",
    "group_batch_norms",
]
