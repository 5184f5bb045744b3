"""The toolbox's ``launch``, which knows CUDA alone."""

import importlib
from typing import Any

from nplp.distributed.processes import launch

__all__ = ["bridge_launch"]


def bridge_launch() -> None:
    """Replace ``launch`` (``engine/launch.py``) by :func:`launch`.

    The toolbox's asserts CUDA, knows no backend but NCCL, and does not know torchrun.
    """
    engine: Any = importlib.import_module("fastreid.engine")
    # The package's attribute of this name is the function, so the module is asked for by its path.
    module: Any = importlib.import_module("fastreid.engine.launch")
    module.launch = engine.launch = launch
