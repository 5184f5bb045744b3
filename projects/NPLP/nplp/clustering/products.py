"""Matrix products in float32, whatever shortcuts the caller lets torch take.

torch may multiply float32 by way of TF32 or bfloat16 where that is allowed to it. It is allowed for a whole
process: a call that forbade it for a while would change what other threads compute.
"""

from __future__ import annotations

import os

import torch

__all__ = ["keeps_float32", "multiply"]

_PARTS = 3
"""Of 8 bits each: as many as the 24 of float32."""


def multiply(rows: torch.Tensor, columns: torch.Tensor, out: torch.Tensor) -> None:
    """Write the products of all rows [R, D] and columns [C, D] to out [R, C], all of one type and device.

    Where float32 would be shortened, its numbers are split into parts that no shortcut loses anything of. The
    products are then as good as in float32, if not equal to the last bit.

    Memory: nothing to speak of, or 12 bytes a number of the rows and columns where they are split.
    """
    # Written to a given tensor, which automatic mixed precision leaves alone.
    if rows.dtype != torch.float32 or keeps_float32(rows.device):
        torch.mm(rows, columns.T, out=out)
        return
    left, right = _parts(rows), _parts(columns)
    # The smallest first, so that the sum is rounded as that of one product. Three levels of parts hold all
    # that float32 has.
    torch.mm(left[0], right[2].T, out=out)
    for one, other in ((1, 1), (2, 0), (0, 1), (1, 0), (0, 0)):
        torch.addmm(out, left[one], right[other].T, out=out)


def keeps_float32(device: torch.device) -> bool:
    """Tell whether products of float32 are made in float32 on a device, by the settings of this moment."""
    if device.type == "cuda" and os.environ.get("NVIDIA_TF32_OVERRIDE") == "1":
        return False
    backend = torch.backends.cuda if device.type == "cuda" else torch.backends.mkldnn
    own = getattr(backend, "matmul", None)
    try:
        # Since torch 2.9 each backend has a setting of its own, and asking for the common one, which torch
        # before it has, is an error wherever somebody has used the new ones.
        return getattr(own, "fp32_precision", None) in ("none", "ieee") or (
            not hasattr(own, "fp32_precision") and torch.get_float32_matmul_precision() == "highest"
        )
    except RuntimeError:
        return False


def _parts(values: torch.Tensor) -> list[torch.Tensor]:
    """Return three tensors of float32 that add up to `values`, each of numbers that bfloat16 holds."""
    parts = []
    for _ in range(_PARTS):
        part = values.bfloat16().float()
        parts.append(part)
        values = values - part
    return parts
