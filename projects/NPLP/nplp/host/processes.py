"""The toolbox's ``launch``, which knows CUDA alone."""

import importlib
from typing import Any

from nplp.distributed.processes import launch
from nplp.host.probes import refers_to

__all__ = ["bridge_launch"]


def bridge_launch() -> bool:
    """Replace ``launch`` (``engine/launch.py``) by :func:`launch`; return whether it was.

    The toolbox's asserts CUDA, knows no backend but NCCL, and does not know torchrun.
    """
    engine: Any = importlib.import_module("fastreid.engine")
    # The package's attribute of this name is the function, so the module is asked for by its path.
    module: Any = importlib.import_module("fastreid.engine.launch")
    if not refers_to(module._distributed_worker, "NCCL"):
        return False
    module.launch = engine.launch = launch
    return True
