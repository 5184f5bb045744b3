"""Matrix products of float32 that keep its precision, whatever shortcuts the caller lets torch take.

A process may allow torch to multiply float32 by way of TF32 or bfloat16. That setting holds for all threads
of the process, so the stage must not change it, not even for a moment.
"""

from __future__ import annotations

import os

import torch

__all__ = ["keeps_float32", "multiply"]


def multiply(rows: torch.Tensor, columns: torch.Tensor, out: torch.Tensor) -> None:
    """Write the products of all rows [R, D] and columns [C, D] to out [R, C], all of one type and device.

    Where torch would shorten float32, the numbers are multiplied in float64 instead. The products are then at
    least as good as in float32, if not equal to the last bit.

    Memory: nothing to speak of; in float64, 8 bytes a number of the rows, the columns and the products.
    """
    # torch.mm with out= is left alone by automatic mixed precision, and so are products of float64.
    if rows.dtype != torch.float32 or keeps_float32(rows.device):
        torch.mm(rows, columns.T, out=out)
    else:
        out.copy_(torch.mm(rows.double(), columns.double().T))


def keeps_float32(device: torch.device) -> bool:
    """Return whether torch multiplies float32 in float32 on a device, by its current settings."""
    if device.type == "cuda" and os.environ.get("NVIDIA_TF32_OVERRIDE") == "1":
        return False
    backend = torch.backends.cuda if device.type == "cuda" else torch.backends.mkldnn
    own = getattr(backend, "matmul", None)
    try:
        # Since torch 2.9 each backend has its own setting. Reading the older, common setting is then an error
        # if anything in the process has used the new ones.
        return getattr(own, "fp32_precision", None) in ("none", "ieee") or (
            not hasattr(own, "fp32_precision") and torch.get_float32_matmul_precision() == "highest"
        )
    except RuntimeError:
        return False
