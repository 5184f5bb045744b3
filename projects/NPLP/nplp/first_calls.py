"""The first call of torch's functions on the CPU, made by one thread.

Torch hands ``sqrt``, ``exp`` and their like to Intel's MKL, which chooses a kernel when a function is called
for the first time. Where several threads make that first call at once, one of them may be given a kernel of
12 bits for its share of the values (github.com/pytorch/pytorch/issues/188792; MKL 2024.2, which torch's
packages hold): a first step of training then differs from run to run. After one call by one thread there is
nothing left to choose.
"""

import torch

__all__ = ["VECTOR_FUNCTIONS", "make_first_calls"]

VECTOR_FUNCTIONS = (
    "acos", "asin", "atan", "ceil", "cos", "cosh", "erf", "erfc", "erfinv", "exp", "expm1", "floor",
    "lgamma", "log", "log10", "log1p", "log2", "rsqrt", "round", "sigmoid", "sin", "sinh", "sqrt", "tan",
    "tanh", "trunc",
)  # fmt: skip
"""Names in ``torch`` of what MKL may compute."""


def make_first_calls() -> None:
    """Call each function once for a single value, in both precisions; takes less than a millisecond."""
    for dtype in (torch.float32, torch.float64):
        value = torch.full((1,), 0.5, dtype=dtype)
        for name in VECTOR_FUNCTIONS:
            getattr(torch, name)(value)
