"""The mean of the smallest of a stream of values, in bounded memory.

Of the values within a bracket those are held that can still be among the smallest. Values below it are
counted and added up, values above it are dropped. Where a bracket has too many values, a histogram gives a
narrower one, and the stream runs again.
"""

from __future__ import annotations

import math
from threading import Lock
from typing import NamedTuple

import numpy as np

from nplp.clustering.sweep.shares import Shares

__all__ = ["Bracket", "MeanOfSmallest", "capacity", "clipped_mean"]

_MIN_VALUES = 1 << 18
_VALUES_PER_SAMPLE = 128
_BINS = 4096


def capacity(samples: int) -> int:
    """Return how many distances among a number of samples are held at most."""
    return max(_MIN_VALUES, _VALUES_PER_SAMPLE * samples)


def clipped_mean(values: np.ndarray) -> float:
    """Return the mean of values [P], kept within their range; they are sorted in place.

    The rounding of a mean can put it one unit in the last place below equal values, and DBSCAN would then
    not link the very pairs that were averaged. Sorting makes the sum independent of the order of the pairs.
    """
    values.sort()
    return float(np.clip(values.mean(), values[0], values[-1]))


class Bracket(NamedTuple):
    """The range low <= value <= high in which the last of the smallest values is looked for."""

    low: float
    high: float


class MeanOfSmallest:
    """The mean of the `count` smallest of the values that a pass adds, in any order and by many threads.

    Memory: 8 bytes a value that is held, at most `capacity` or 2 `count` of them, whichever is less, and one
    block; as much again to choose the smallest of them; 64 kB of bins beyond.
    """

    def __init__(self, count: int, bracket: Bracket, limit: float, samples: int = 0) -> None:
        """Begin a pass.

        Args:
            count: how many values to average, at least 1.
            bracket: where the last of them is looked for; a wrong guess costs another pass.
            limit: no value is greater.
            samples: N, of which the values are distances; see `capacity`.
        """
        self._count = count
        self._capacity = capacity(samples)
        self.bracket = bracket
        self._limit = limit
        self._lock = Lock()
        self._below = 0
        self._sums: list[float] = []
        self._inside = 0
        self._held: list[np.ndarray] = []
        # When more than the most are held, the smallest are chosen: none of them is above the reach.
        self._number_held, self._most_held, self._reach = 0, 2 * count, math.inf
        self._overflown = False
        self._bins = np.zeros(_BINS, dtype=np.int64)
        self._least, self._most = math.inf, -math.inf

    def add(self, values: np.ndarray) -> None:
        """Take values [P] float64: all of them, or none where memory does not suffice."""
        low, high = self.bracket.low, self.bracket.high
        below, inside = values[values < low], values[(values >= low) & (values <= high)]
        count, total = len(below), float(below.sum())
        if len(inside):
            with self._lock:
                self._hold(inside)
        self.add_below(count, total)

    def add_below(self, count: int, total: float) -> None:
        """Take `count` values that are known to lie below the bracket by their sum."""
        if count:
            with self._lock:
                self._below += count
                self._sums.append(total)

    def join(self, shares: Shares) -> None:
        """Take what the other workers of a shared pass were given; each of them must call this.

        Args:
            shares: this worker.
        """
        if shares.count == 1:
            return
        numbers = np.array([self._below, self._inside, self._overflown])
        self._below, self._inside, overflown = shares.summed(numbers).tolist()
        self._sums = shares.gathered(np.array(self._sums, dtype=np.float64)).tolist()
        extremes = shares.largest(np.array([-self._least, self._most]))
        self._least, self._most = -float(extremes[0]), float(extremes[1])
        if overflown or self._inside > self._capacity:
            bins = self._bins if self._overflown else self._counted(self._held)
            self._bins, self._held, self._overflown = shares.summed(bins), [], True
        else:
            self._held = [shares.gathered(np.concatenate([np.empty(0), *self._held]))]

    def mean(self) -> float | None:
        """Return the mean, or None if the bracket was wrong or held too many: see `next_bracket`."""
        wanted = self._count - self._below
        if not 0 < wanted <= self._inside:
            return None
        # math.fsum does not depend on the order that threads finish in.
        below = math.fsum(self._sums)
        if self._overflown:
            if self._least < self._most:
                return None
            inside = self._least
        else:
            inside = clipped_mean(_smallest(self._held, wanted))
        return inside if not self._below else (below + wanted * inside) / self._count

    def next_bracket(self) -> Bracket:
        """Return the bracket of another pass after `mean` gave None."""
        wanted = self._count - self._below
        if wanted <= 0:
            return Bracket(0.0, self.bracket.low)
        if wanted > self._inside:
            return Bracket(math.nextafter(self.bracket.high, math.inf), self._limit)
        edges = self._edges()
        chosen = int(np.searchsorted(np.cumsum(self._bins), wanted))
        low, high = max(float(edges[chosen]), self._least), min(float(edges[chosen + 1]), self._most)
        # Neighbouring floats cannot be told apart by bins: the lower one goes first.
        return Bracket(low, high if (low, high) != self.bracket else low)

    def _hold(self, values: np.ndarray) -> None:
        """Keep values that are in the bracket, or count them where there are too many."""
        inside = self._inside + len(values)
        overflown = self._overflown or inside > self._capacity
        # All that needs memory comes before anything is changed.
        least, most = min(self._least, float(values.min())), max(self._most, float(values.max()))
        near = values[values <= self._reach]
        held, number, reach = [*self._held, near], self._number_held + len(near), self._reach
        if overflown:
            self._bins += self._counted(held)
            held, number = [], 0
        elif number > self._most_held:
            try:
                # A copy, as a view would keep all of them.
                smallest = _smallest(held, self._count).copy()
            except MemoryError:
                # All of them stay, and the next try is when they are twice as many.
                self._most_held = 2 * number
            else:
                held, number, reach = [smallest], self._count, float(smallest.max())
        self._held, self._number_held, self._reach = held, number, reach
        self._inside, self._overflown = inside, overflown
        self._least, self._most = least, most

    def _counted(self, held: list[np.ndarray]) -> np.ndarray:
        """Return how many values of some arrays are in each bin."""
        return sum((np.histogram(part, self._edges())[0] for part in held), np.zeros_like(self._bins))

    def _edges(self) -> np.ndarray:
        return np.linspace(self.bracket.low, self.bracket.high, _BINS + 1)


def _smallest(parts: list[np.ndarray], count: int) -> np.ndarray:
    """Return the `count` smallest values of some arrays, which hold as many or more, in any order."""
    values = np.concatenate(parts)
    values.partition(count - 1)
    return values[:count]
