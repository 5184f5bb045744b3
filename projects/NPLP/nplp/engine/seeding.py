"""Random states that depend on the seed and the position in the run alone.

Every epoch starts by seeding all generators from ``(seed, stage, epoch)``. A run resumed at an epoch's
beginning therefore draws what the undisturbed run drew, without saving any generator's state.
"""

import random

import numpy as np
import torch

__all__ = ["derive_seed", "seed_everything"]


def derive_seed(seed: int, *position: int) -> int:
    """Return a 63-bit seed that is a function of ``seed`` and a position, such as (stage, epoch)."""
    words = np.random.SeedSequence([seed, *position]).generate_state(2, np.uint32)
    return int(words[0]) << 31 | int(words[1]) >> 1


def seed_everything(seed: int) -> None:
    """Seed python's, numpy's and torch's global generators."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  the toolbox draws from the global generator
    torch.manual_seed(seed)
