"""How the workers of a pass divide its parts among them, and bring together what each of them found.

A worker is a process. All of them hold the same features and make the same calls in the same order; what one
of them finds reaches the others through `Shares`, so that all of them end with the same results. How that
is sent is not known here; a process by itself is `ALONE`.

What is brought together does not depend on who did which part: pairs are settled by the same differences
wherever it is done, and sums of products are whole numbers made of the same tiles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

import numpy as np

__all__ = [
    "ALONE",
    "Shares",
    "current_shares",
    "own_part",
    "own_range",
    "owner",
    "shared_among",
    "true_for_all",
]

Value = TypeVar("Value")


class Shares(Protocol):
    """One of the workers of a pass, and what it exchanges with the others.

    Each method is called by all workers, with arrays of one type that differ in their length at most.
    """

    @property
    def number(self) -> int:
        """The number of this worker, from 0."""

    @property
    def count(self) -> int:
        """How many workers there are."""

    def agreed(self, value: Value) -> Value:
        """Return the first worker's value, a small one."""

    def gathered(self, array: np.ndarray) -> np.ndarray:
        """Return the workers' arrays [P, ...] one after the other, in the order of their numbers."""

    def swapped(self, array: np.ndarray) -> np.ndarray:
        """Return what each worker has of this one's rows.

        Args:
            array: [N, ...], of one length for all workers. Worker w of W owns the rows from w N // W on, as
                far as those of the next one.

        Returns:
            [W, M, ...] for the M rows that this worker owns.
        """

    def summed(self, array: np.ndarray) -> np.ndarray:
        """Return the sum of the workers' arrays, all of one shape, in their type."""

    def largest(self, array: np.ndarray) -> np.ndarray:
        """Return the greatest values of the workers' arrays, all of one shape."""


class _Alone:
    """The only worker."""

    number = 0
    count = 1

    def agreed(self, value: Value) -> Value:
        """Return the value."""
        return value

    def gathered(self, array: np.ndarray) -> np.ndarray:
        """Return the array."""
        return array

    def swapped(self, array: np.ndarray) -> np.ndarray:
        """Return the array as the only one [1, N, ...]."""
        return array[None]

    def summed(self, array: np.ndarray) -> np.ndarray:
        """Return the array."""
        return array

    def largest(self, array: np.ndarray) -> np.ndarray:
        """Return the array."""
        return array


ALONE: Shares = _Alone()
"""The worker of a pass that nothing shares."""

_current: ContextVar[Shares] = ContextVar("shares", default=ALONE)


def current_shares() -> Shares:
    """Return the worker that this process is within `shared_among`; else `ALONE`."""
    return _current.get()


@contextmanager
def shared_among(shares: Shares) -> Iterator[None]:
    """Let all passes over pairs within the block be shared; all workers must run the same block.

    Args:
        shares: this process's.
    """
    token = _current.set(shares)
    try:
        yield
    finally:
        _current.reset(token)


def owner(shares: Shares, before: int, cost: int, total: int) -> int:
    """Return who does a part of the work, such that each worker's parts follow each other and cost the same.

    Args:
        shares: any of the workers.
        before: cost of the parts that come before.
        cost: of the part.
        total: cost of all parts.
    """
    return min((2 * before + cost) * shares.count // max(2 * total, 1), shares.count - 1)


def own_part(shares: Shares, costs: Sequence[int]) -> slice:
    """Return which of some parts, in their order, are this worker's; see `owner`.

    Args:
        shares: this worker.
        costs: of each part, whole numbers.
    """
    total, before, owners = sum(costs), 0, []
    for cost in costs:
        owners.append(owner(shares, before, cost, total))
        before += cost
    return slice(*(int(np.searchsorted(owners, number)) for number in (shares.number, shares.number + 1)))


def own_range(shares: Shares, length: int, number: int | None = None) -> slice:
    """Return which of a number of equal parts are a worker's: those that `Shares.swapped` says it owns.

    Args:
        shares: this worker.
        length: number of parts.
        number: of the worker; None for this one.
    """
    number = shares.number if number is None else number
    return slice(*(each * length // shares.count for each in (number, number + 1)))


def true_for_all(shares: Shares, condition: bool) -> bool:
    """Return whether a condition holds for all workers."""
    return int(shares.summed(np.array([int(condition)]))[0]) == shares.count
