"""Layers of section III-D: pyramidal average pooling and the hyper-network."""

from .hyper_network import HyperNetwork
from .pyramidal_pooling import PyramidalAveragePooling

__all__ = ["HyperNetwork", "PyramidalAveragePooling"]
