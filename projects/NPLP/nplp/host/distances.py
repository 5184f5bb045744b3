"""The toolbox's distance matrices without CUDA, and without a deprecated call."""

import functools
import importlib
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from nplp.distributed.programs import fault_of_program

__all__ = ["bridge_distances", "working_search_option"]

logger = logging.getLogger(__name__)

CPU_SEARCH = 3
GPU_INDEX_SEARCH = 2
GPU_SEARCH_SECONDS = 120
"""How long the try on the GPU may take; the first use of a card is slow."""
_GPU_SEARCH = """
import faiss, numpy
index = faiss.GpuIndexFlatL2(faiss.StandardGpuResources(), 4)
points = numpy.eye(4, dtype="float32")
index.add(points)
assert (index.search(points, 1)[1][:, 0] == numpy.arange(4)).all(), "wrong neighbours"
"""


def _faiss() -> Any:
    """Return faiss, which re-ranking alone needs; None where it is not installed."""
    try:
        return importlib.import_module("faiss")
    except ImportError:
        return None


def working_search_option(wanted: int) -> int:
    """Return the nearest-neighbour search nearest to the ``wanted`` one that works here.

    Args:
        wanted: as the toolbox numbers them: 0 and 1 hand tensors on the GPU to faiss, 2 hands arrays to
            a faiss index on the GPU, 3 to one on the CPU.

    Returns:
        ``wanted`` where it works; 2 with a faiss that no longer has ``cast_integer_to_long_ptr``, which
        0 and 1 need; 3 without CUDA or without a GPU build of faiss that works.
    """
    faiss = _faiss()
    resources = getattr(faiss, "StandardGpuResources", None)
    if wanted == CPU_SEARCH or resources is None or not torch.cuda.is_available():
        return CPU_SEARCH
    if not faiss.get_num_gpus() or not _gpu_search_works(resources):
        return CPU_SEARCH
    if not hasattr(faiss, "cast_integer_to_long_ptr"):
        return max(wanted, GPU_INDEX_SEARCH)
    return wanted


@functools.cache
def _gpu_search_works(resources: Callable[[], object]) -> bool:
    """Return whether faiss searches on the GPU with its ``resources``; tried once, a line in the log if not.

    A build for another CUDA or without kernels for the card ("cublas failed (13)", "no kernel image") may end
    the process that uses it: it is tried in one of its own.
    """
    reason = ""
    try:
        resources()
        if hasattr(_faiss(), "GpuIndexFlatL2"):
            reason = fault_of_program(["-c", _GPU_SEARCH], GPU_SEARCH_SECONDS)
    except (RuntimeError, OSError, AttributeError, TypeError) as error:
        reason = str(error)
    if reason:
        line = reason.strip().splitlines()[-1]
        logger.warning("re-ranking searches on the processor, as faiss fails on the GPU here: %s", line)
    return not reason


def bridge_distances() -> None:
    """Repair ``utils/compute_dist.py``.

    ``compute_jaccard_distance`` moves features to a GPU unless it is called with ``search_option=3``,
    which re-ranking never does: ``TEST.RERANK.ENABLED True`` fails on a CPU. ``compute_euclidean_distance``
    passes the factors of ``addmm_`` by position, which torch deprecated.
    """
    module: Any = importlib.import_module("fastreid.utils.compute_dist")
    module.compute_jaccard_distance = _search_that_works(module.compute_jaccard_distance)
    module.compute_euclidean_distance = _euclidean_distance


def _search_that_works(jaccard: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    def compute_jaccard_distance(
        features: torch.Tensor, k1: int = 20, k2: int = 6, search_option: int = 0, fp16: bool = False
    ) -> np.ndarray:
        option = working_search_option(search_option)
        return jaccard(features, k1=k1, k2=k2, search_option=option, fp16=fp16)

    return compute_jaccard_distance


@torch.no_grad()
def _euclidean_distance(features: torch.Tensor, others: torch.Tensor) -> np.ndarray:
    """Return squared distances ``[M, N]`` between ``[M, D]`` and ``[N, D]``, on the CPU.

    The toolbox's formula, |a|^2 + |b|^2 - 2 a.b, operation for operation: numbers do not change.
    """
    squares = features.pow(2).sum(dim=1, keepdim=True) + others.pow(2).sum(dim=1, keepdim=True).t()
    return squares.addmm_(features, others.t(), beta=1, alpha=-2).cpu().numpy()
