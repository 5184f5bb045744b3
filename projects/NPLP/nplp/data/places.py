"""Random draws for an image that depend on its place in the batch of all processes, not on who reads it."""

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Sampler

from nplp.data.samplers import Epoch

__all__ = ["Place", "PlacedBatches", "drawn_at", "seed_at"]


class Place(NamedTuple):
    """An image of a batch.

    Attributes:
        number: the image's in the data set.
        position: the epoch's seed, the batch's number in the epoch, the image's in the batch of all
            processes.
    """

    number: int
    position: tuple[int, int, int]


class PlacedBatches(Sampler[list[Place]]):
    """The batches of another sampler, each image with its place in the batch of all processes.

    Args:
        batches: this process's shares, consecutive and as long in every process.
        epoch: that they are of.
    """

    def __init__(self, batches: Iterable[list[int]], epoch: Epoch) -> None:
        self._batches = batches
        self._epoch = epoch

    def __len__(self) -> int:
        return self._epoch.num_batches

    def __iter__(self) -> Iterator[list[Place]]:
        epoch = self._epoch
        for number, batch in enumerate(self._batches):
            first = epoch.rank * len(batch)
            yield [Place(index, (epoch.seed, number, first + offset)) for offset, index in enumerate(batch)]


def seed_at(position: tuple[int, ...]) -> int:
    """Return a 63-bit seed that is a function of a position, numbers of at least 0."""
    return int(np.random.SeedSequence(position).generate_state(1, np.uint64)[0]) >> 1


@contextmanager
def drawn_at(position: tuple[int, ...]) -> Iterator[None]:
    """Let python, numpy and torch draw by a position within the block, and go on afterwards as before it.

    About 0.1 ms.

    Args:
        position: numbers of at least 0.
    """
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    seed = seed_at(position)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  the toolbox's transforms draw from the global generator
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        torch.set_rng_state(before[2])
