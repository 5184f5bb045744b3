"""The toolbox's optimisers under a present torch: dropped gradients, an imported compiler, fused steps.

The toolbox trains one flat buffer of parameters whose gradient buffer the model's own gradients are views
of (utils/params.py), and clears it by ``optimizer.zero_grad()`` (engine/train_loop.py:248 and 346). Since
torch 2.0 that call sets the buffer's gradient to None: the optimiser then finds no gradient and changes
nothing, without an error, while the model's gradients pile up.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any

import torch
from fastreid import solver
from fastreid.engine import defaults
from fastreid.solver import build

__all__ = ["bridge_zero_grad", "fuse_step", "optimizers_without_compiler"]

COMPILER = "torch._dynamo"
FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)
FUSED_ON = ("cpu", "cuda")


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


def fuse_step(optimizer: torch.optim.Optimizer) -> None:
    """Let an optimiser read and write weights and moments once a step, where torch has such a step for it.

    torch's usual step passes over them for each operation of the rule, Adam's some ten times. Results differ
    by rounding. A state of an optimiser that was not fused, once loaded, brings the usual step back.
    """
    weights = (weight for group in optimizer.param_groups for weight in group["params"])
    if isinstance(optimizer, FUSED) and all(weight.device.type in FUSED_ON for weight in weights):
        for group in optimizer.param_groups:
            group["fused"] = True


def optimizers_without_compiler() -> None:
    """Let torch's optimisers work without importing torch's compiler, which takes a second of every start.

    They import it when they are built and at each step, to keep it from looking into them. Until something
    else has imported it, which ``torch.compile`` does, there is nobody to look: a step computes the same.
    Where another version of torch does not keep the methods apart from what surrounds them, the compiler is
    imported as before.
    """
    base: Any = torch.optim.Optimizer
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        guarded = getattr(base, name)
        if hasattr(guarded, "__wrapped__"):
            setattr(base, name, _until_compiler_is_there(guarded.__wrapped__, guarded))
    for kind in vars(torch.optim).values():
        guarded = vars(kind).get("step") if isinstance(kind, type) else None
        if guarded is not None and guarded.__code__.co_name == "_use_grad":
            kind.step = _until_compiler_is_there(_in_own_grad_mode(guarded.__wrapped__), guarded)


def _until_compiler_is_there(plain: Callable[..., Any], guarded: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that is ``plain`` until the compiler has been imported, and ``guarded`` from then."""

    @functools.wraps(plain)
    def method(*args: Any, **kwargs: Any) -> Any:
        return (guarded if COMPILER in sys.modules else plain)(*args, **kwargs)

    return method


def _in_own_grad_mode(step: Callable[..., Any]) -> Callable[..., Any]:
    """Return an optimiser's step that records gradients where the optimiser is ``differentiable`` alone."""

    @functools.wraps(step)
    def method(self: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> Any:
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            return step(self, *args, **kwargs)

    return method
