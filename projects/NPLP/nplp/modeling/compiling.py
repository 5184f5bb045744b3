"""The backbone compiled by torch.compile, and what that needs."""

import os
import shutil
from importlib.util import find_spec

import torch
from torch import nn

from nplp.errors import UserError

__all__ = ["compile_backbone"]

COMPILERS = ("g++", "c++", "clang++", "cl")


def compile_backbone(model: nn.Module, device: torch.device) -> None:
    """Let torch.compile compile ``model.backbone`` at its first call; names of weights stay as they are.

    Args:
        model: with a ``backbone``, on the device.
        device: where it will train.

    Raises:
        UserError: without a C++ compiler on a CPU, or without Triton on a GPU.
    """
    if device.type == "cuda":
        missing = "" if find_spec("triton") else "Triton on a GPU: pip install triton"
    else:
        chosen = (os.environ["CXX"],) if os.environ.get("CXX") else COMPILERS
        found = any(shutil.which(name) for name in chosen)
        missing = (
            "" if found else f"a C++ compiler, and none of {', '.join(chosen)} is on the path: install one"
        )
    if missing:
        raise UserError(f"MODEL.COMPILE True needs {missing}, or set it to False")
    backbone = model.backbone
    assert isinstance(backbone, nn.Module)
    backbone.compile()
