"""Methods: how an iteration's pseudo-labels are made, and what a training step minimises.

The engine knows them by the protocol :class:`Method` alone. A new one is a file here and its name below.
"""

from . import cap, memory, mmt, nplp, o2cap, pplr, spcl, ssg, uda
from .protocol import DistanceSettings, Labelling, Method, NetworkMethod
from .registry import METHODS, build_method, register_method

__all__ = [
    "METHODS",
    "DistanceSettings",
    "Labelling",
    "Method",
    "NetworkMethod",
    "build_method",
    "cap",
    "memory",
    "mmt",
    "nplp",
    "o2cap",
    "pplr",
    "register_method",
    "spcl",
    "ssg",
    "uda",
]
