"""Pairs of samples as a pass over all pairs finds them: passed on, and held where they are not too many.

Shapes: N samples, P pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from threading import Lock
from typing import Protocol

import numpy as np

from nplp.clustering.sweep.shares import ALONE, Shares, current_shares

__all__ = [
    "EdgeVisitor",
    "FindPairs",
    "HeldPairs",
    "NearPairs",
    "PairSink",
    "PairVisitor",
    "PairsPassedOn",
    "camera_groups",
]

EdgeVisitor = Callable[[np.ndarray, np.ndarray], object]
"""Takes the two samples of each pair: two integer arrays [P], the lower sample first."""

PairVisitor = Callable[[np.ndarray, np.ndarray, np.ndarray], object]
"""Takes the two samples of each pair and the distances [P] float64."""

_MIN_PAIRS = 1 << 20
_PAIRS_PER_SAMPLE = 256


def camera_groups(camera_ids: np.ndarray | None, count: int) -> np.ndarray:
    """Return groups [N] int32 such that eq. 4 counts the pairs of different groups.

    The groups are the cameras; without cameras each sample is a group of its own.

    Args:
        camera_ids: [N] int64, or None for all pairs.
        count: N.
    """
    if camera_ids is None:
        return np.arange(count, dtype=np.int32)
    return np.unique(camera_ids, return_inverse=True)[1].reshape(-1).astype(np.int32)


class PairSink(Protocol):
    """Takes the pairs that a pass finds."""

    @property
    def bound(self) -> float:
        """The distance up to which pairs are wanted."""

    def add(self, first: np.ndarray, second: np.ndarray, distance: np.ndarray) -> None:
        """Take pairs [P] within the bound, from any thread."""


FindPairs = Callable[[PairSink, Shares], None]
"""Adds pairs within the bound of a sink to that sink: of all pairs those that are a worker's share."""


class PairsPassedOn:
    """Passes the pairs of a pass on to a visitor, one block at a time."""

    def __init__(self, bound: float, visit: PairVisitor) -> None:
        """Pass pairs at a distance of at most `bound` to `visit`."""
        self.bound = bound
        self._visit = visit
        self._lock = Lock()

    def add(self, first: np.ndarray, second: np.ndarray, distance: np.ndarray) -> None:
        """Take pairs [P] from any thread."""
        with self._lock:
            self._visit(first, second, distance)


class HeldPairs:
    """The pairs of a pass within a bound, kept for the steps that follow, if they are not too many.

    Memory: 16 bytes a pair, at most 256 pairs a sample, or 1,048,576 in all if that is more; beyond that
    nothing is held.
    """

    def __init__(self, count: int, bound: float) -> None:
        """Begin to hold pairs among `count` samples at a distance of at most `bound`."""
        self._bound = bound
        self._budget = max(_MIN_PAIRS, _PAIRS_PER_SAMPLE * count)
        self._blocks: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._size = 0
        self._overflown = False
        self._lock = Lock()

    @property
    def overflown(self) -> bool:
        """Whether the pairs were too many to be held."""
        return self._overflown

    @property
    def bound(self) -> float:
        """The distance up to which pairs are wanted, and are here unless `overflown`."""
        return self._bound

    def add(self, first: np.ndarray, second: np.ndarray, distance: np.ndarray) -> None:
        """Take pairs [P] with their distances, from any thread; the arrays are kept."""
        with self._lock:
            self._size += len(first)
            self._overflown = self._overflown or self._size > self._budget
            if len(first) and not self._overflown:
                try:
                    samples = first.astype(np.int32, copy=False), second.astype(np.int32, copy=False)
                    self._blocks.append((*samples, distance))
                except MemoryError:
                    self._overflown = True
            if self._overflown:
                self._blocks = []

    def join(self, shares: Shares) -> None:
        """Take what the other workers of a shared pass were given; each of them must call this.

        All of them then hold all pairs, or none where these are too many.

        Args:
            shares: this worker.
        """
        if shares.count == 1:
            return
        self._size, overflown = shares.summed(np.array([self._size, self._overflown])).tolist()
        self._overflown = bool(overflown) or self._size > self._budget
        blocks, self._blocks = self._blocks, []
        if self._overflown:
            return
        kinds = (np.int32, np.int32, np.float64)
        first, second, distance = (
            shares.gathered(np.concatenate([np.empty(0, dtype=kind), *(block[part] for block in blocks)]))
            for part, kind in enumerate(kinds)
        )
        self._blocks = [(first, second, distance)]

    def blocks(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Return blocks of first sample [P] int32, second sample [P] int32 and distance [P] float64."""
        return self._blocks

    def visit(self, radius: float, visit: PairVisitor) -> None:
        """Call `visit` with the pairs within `radius`, which is at most `bound`."""
        for block in self._blocks:
            within = block[2] <= radius
            visit(*(block if within.all() else (part[within] for part in block)))


class NearPairs:
    """The pairs within a radius: held where they are few enough, otherwise found again for each visit.

    A pass that finds pairs for a visit holds them as well. Once they fit, no smaller radius needs a pass.

    Memory: that of one `HeldPairs`.
    """

    def __init__(self, count: int, find: FindPairs) -> None:
        """Prepare pairs among `count` samples; see `FindPairs` for what finds them."""
        self._count = count
        self._find = find
        self._held: HeldPairs | None = None
        self._too_wide = math.inf

    def take(self, held: HeldPairs) -> None:
        """Keep the pairs that a whole pass has added to `held`."""
        if held.overflown:
            self._too_wide = min(self._too_wide, held.bound)
        else:
            self._held = held

    def visit(self, radius: float, visit: PairVisitor) -> None:
        """Call `visit` with the pairs within a radius, in blocks and never two at a time."""
        if self._held is not None and self._held.bound >= radius:
            self._held.visit(radius, visit)
            return
        passed_on = PairsPassedOn(radius, visit)
        if radius >= self._too_wide:
            self._find(passed_on, ALONE)
            return
        # Two sets would take twice the memory.
        self._held = None
        held, shares = HeldPairs(self._count, radius), current_shares()
        if shares.count == 1:
            self._find(_HeldAndPassedOn(held, passed_on), ALONE)
            self.take(held)
            return
        self._find(held, shares)
        held.join(shares)
        self.take(held)
        if held.overflown:
            # Each worker finds all of them, as none can hold what the others would send.
            self._find(passed_on, ALONE)
        else:
            held.visit(radius, visit)


class _HeldAndPassedOn:
    """Passes pairs on and holds them as well."""

    def __init__(self, held: HeldPairs, passed_on: PairsPassedOn) -> None:
        """Take two sinks of the same bound."""
        self.bound = held.bound
        self._held, self._passed_on = held, passed_on

    def add(self, first: np.ndarray, second: np.ndarray, distance: np.ndarray) -> None:
        """Take pairs [P] from any thread."""
        # Passing on may fail for lack of memory, and the block then comes again: it must be held once.
        self._passed_on.add(first, second, distance)
        self._held.add(first, second, distance)
