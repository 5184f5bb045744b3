"""Methods: how an iteration's pseudo-labels are made, and what a training step minimises.

The engine knows them by the protocol :class:`Method` alone. A new one is a file here and its name below.
"""

from . import memory, nplp, spcl
from .protocol import DistanceSettings, Labelling, Method
from .registry import METHODS, build_method, register_method

__all__ = [
    "METHODS",
    "DistanceSettings",
    "Labelling",
    "Method",
    "build_method",
    "memory",
    "nplp",
    "register_method",
    "spcl",
]
