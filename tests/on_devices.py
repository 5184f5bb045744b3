"""Where a test runs: on the processor always, and on a GPU where there is one."""

import os

import pytest
import torch

# Read at the first product on a GPU; deterministic algorithms are refused there without it.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

on_devices = pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
            ],
        ),
    ],
)
"""Gives a test its ``device``. On the CPU it compares the CPU with itself, so that its body is always run."""
