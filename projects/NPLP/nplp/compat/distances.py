"""The toolbox's distance matrices without CUDA, and without a deprecated call."""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from nplp.compat.probes import misbehaves, refers_to

try:
    faiss: Any = importlib.import_module("faiss")
except ImportError:
    # Re-ranking alone needs it.
    faiss = None

__all__ = ["bridge_distances", "working_search_option"]

CPU_SEARCH = 3
GPU_INDEX_SEARCH = 2


def working_search_option(wanted: int) -> int:
    """Return the nearest-neighbour search nearest to the ``wanted`` one that works here.

    Args:
        wanted: as the toolbox numbers them: 0 and 1 hand tensors on the GPU to faiss, 2 hands arrays to
            a faiss index on the GPU, 3 to one on the CPU.

    Returns:
        ``wanted`` where it works; 2 with a faiss that no longer has ``cast_integer_to_long_ptr``, which
        0 and 1 need; 3 without CUDA or without a GPU build of faiss.
    """
    if (
        not torch.cuda.is_available()
        or not hasattr(faiss, "StandardGpuResources")
        or not faiss.get_num_gpus()
    ):
        return CPU_SEARCH
    if not hasattr(faiss, "cast_integer_to_long_ptr"):
        return max(wanted, GPU_INDEX_SEARCH)
    return wanted


def bridge_distances() -> list[str]:
    """Repair ``utils/compute_dist.py``; return the names of the functions that were replaced.

    ``compute_jaccard_distance`` moves features to a GPU unless it is called with ``search_option=3``,
    which re-ranking never does: ``TEST.RERANK.ENABLED True`` fails on a CPU. ``compute_euclidean_distance``
    passes the factors of ``addmm_`` by position, which torch deprecated.
    """
    module: Any = importlib.import_module("fastreid.utils.compute_dist")
    replaced = []
    jaccard = module.compute_jaccard_distance
    if refers_to(jaccard, "cuda"):
        module.compute_jaccard_distance = _search_that_works(jaccard)
        replaced.append("compute_jaccard_distance")
    one = torch.ones(1, 1)
    if misbehaves(lambda: module.compute_euclidean_distance(one, one)):
        module.compute_euclidean_distance = _euclidean_distance
        replaced.append("compute_euclidean_distance")
    return replaced


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
