"""The toolbox's contiguous optimiser under a torch whose ``zero_grad`` drops gradients.

The toolbox trains one flat buffer of parameters whose gradient buffer the model's own gradients are views
of (utils/params.py), and clears it by ``optimizer.zero_grad()`` (engine/train_loop.py:248 and 346). Since
torch 2.0 that call sets the buffer's gradient to None: the optimiser then finds no gradient and changes
nothing, without an error, while the model's gradients pile up.
"""

import functools
from typing import Any

import torch
from fastreid import solver
from fastreid.engine import defaults
from fastreid.solver import build

__all__ = ["bridge_zero_grad"]


def bridge_zero_grad() -> None:
    """Let the optimisers that the toolbox builds zero their gradients in place.

    Needed by solver/build.py's ``build_optimizer``, which engine/defaults.py calls.
    """
    original = build.build_optimizer

    @functools.wraps(original)
    def build_optimizer(*args: Any, **kwargs: Any) -> tuple[torch.optim.Optimizer, Any]:
        optimizer, params = original(*args, **kwargs)
        optimizer.zero_grad = functools.partial(optimizer.zero_grad, set_to_none=False)
        return optimizer, params

    for module in (build, solver, defaults):
        module.build_optimizer = build_optimizer
