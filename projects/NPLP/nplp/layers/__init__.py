"""Layers of section III-D, pyramidal pooling and the hyper-network, and batch norms over groups."""

from .generalised_mean_pooling import GeneralisedMeanPooling
from .grouped_norm import (
    GroupedBatchNorm,
    GroupedBatchNorm1d,
    GroupedBatchNorm2d,
    NormGroups,
    group_batch_norms,
)
from .hyper_network import HyperNetwork
from .pyramidal_pooling import PyramidalAveragePooling, pool_stripes

__all__ = [
    "GeneralisedMeanPooling",
    "GroupedBatchNorm",
    "GroupedBatchNorm1d",
    "GroupedBatchNorm2d",
    "HyperNetwork",
    "NormGroups",
    "PyramidalAveragePooling",
    "group_batch_norms",
    "pool_stripes",
]
