"""Random states that depend on the seed and the position in the run alone.

Every epoch starts by seeding all generators from ``(seed, stage, epoch)``. A run resumed at an epoch's
beginning therefore draws what the undisturbed run drew, without saving any generator's state. Within an
epoch the batches are drawn again up to the step of the checkpoint, which brings samplers and the loader's
workers to where they were, and the generators of this process are restored.
"""

import random
from typing import Any

import numpy as np
import torch

__all__ = ["choose_kernels", "derive_seed", "random_state", "restore_random_state", "seed_everything"]


def choose_kernels(device: torch.device, fastest: bool) -> None:
    """Choose between convolutions that repeat to the bit and the fastest ones, on a GPU.

    On the CPU every step repeats to the bit with a given number of threads, and nothing is to be chosen. On
    CUDA the operations of this package do; cuDNN's convolutions do where it is told so, and some poolings of
    the toolbox's own heads do not.

    Args:
        device: of the model.
        fastest: the toolbox's ``CUDNN_BENCHMARK``: time several convolutions and take the fastest.
    """
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = fastest
        torch.backends.cudnn.deterministic = not fastest


def derive_seed(seed: int, *position: int) -> int:
    """Return a 63-bit seed that is a function of ``seed`` and a position, such as (stage, epoch)."""
    words = np.random.SeedSequence([seed, *position]).generate_state(2, np.uint32)
    return int(words[0]) << 31 | int(words[1]) >> 1


def seed_everything(seed: int) -> None:
    """Seed python's, numpy's and torch's global generators."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  the toolbox draws from the global generator
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """Return the states of this process's generators, as what ``torch.load`` reads without pickle."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    return {
        "python": [version, list(words), gauss],
        "numpy": [name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
        # Asking for their state would begin the use of GPUs by a run that is on the CPU.
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Set this process's generators to what `random_state` returned."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
