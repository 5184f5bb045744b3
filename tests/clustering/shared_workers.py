"""Several workers of a shared pass as threads of one process, for tests without a process group."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, TypeVar

import numpy as np

from nplp.clustering.sweep import shared_among

Result = TypeVar("Result")


class Meeting:
    """Where the workers put what they have, and take it from."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.barrier = Barrier(count, timeout=60)
        self.table: list[Any] = [None] * count


class ThreadShares:
    """One of the workers; what is exchanged is copied, as it is between processes."""

    def __init__(self, meeting: Meeting, number: int) -> None:
        self._meeting = meeting
        self.number, self.count = number, meeting.count
        self.exchanges: list[str] = []

    def _all(self, kind: str, value: Any) -> list[Any]:
        self.exchanges.append(kind)
        meeting = self._meeting
        meeting.table[self.number] = (kind, copy.deepcopy(value))
        meeting.barrier.wait()
        kinds, values = zip(*meeting.table, strict=True)
        assert set(kinds) == {kind}
        meeting.barrier.wait()
        return [copy.deepcopy(value) for value in values]

    def agreed(self, value: Any) -> Any:
        return self._all("agreed", value)[0]

    def gathered(self, array: np.ndarray) -> np.ndarray:
        parts = self._all("gathered", array)
        assert len({part.dtype for part in parts}) == 1
        return np.concatenate(parts)

    def swapped(self, array: np.ndarray) -> np.ndarray:
        start, stop = (number * len(array) // self.count for number in (self.number, self.number + 1))
        return np.stack([part[start:stop] for part in self._all("swapped", array)])

    def summed(self, array: np.ndarray) -> np.ndarray:
        return np.sum(self._all("summed", array), axis=0, dtype=array.dtype)

    def largest(self, array: np.ndarray) -> np.ndarray:
        return np.max(self._all("largest", array), axis=0)


def by_workers(count: int, work: Callable[[], Result]) -> list[Result]:
    """Return what each of `count` workers got of the same work, in the order of their numbers."""
    meeting = Meeting(count)

    def run(number: int) -> Result:
        try:
            with shared_among(ThreadShares(meeting, number)):
                return work()
        except BaseException:
            meeting.barrier.abort()
            raise

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))
