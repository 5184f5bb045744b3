"""Where each process of a run is, told to the others, so that one that hangs is named while they wait for it.

A process that is slow is named as well, once for each place, and nothing is done to it: nobody here can tell
whether it will go on.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Any

import torch.distributed as dist

__all__ = ["Places", "now_at", "places_told"]

TIME_TO_NAME = 60.0
"""Seconds that a process may be at one place before the others' main process says so."""
PERIOD = 5.0
"""Seconds between two looks."""


class Places:
    """The place that this process is at, and where the others say that they are."""

    def __init__(
        self, store: Any, rank: int, size: int, say: Callable[[str], object], patience: float = TIME_TO_NAME
    ) -> None:
        """Take the store that the processes met at.

        Args:
            store: of ``torch.distributed``.
            rank: this process's number.
            size: number of processes.
            say: is handed the line about a process that has not moved.
            patience: seconds until then.
        """
        self._store, self._rank, self._size = store, rank, size
        self._say, self._patience = say, patience
        self._place = "the start"
        self._position = 0
        self._beats = 0
        self._seen: dict[int, tuple[int, float, int, float]] = {}
        self._named: set[tuple[int, int]] = set()

    def at(self, place: str, position: int) -> None:
        """Note where this process is now; it costs no exchange.

        Args:
            place: in words.
            position: a number that grows in the same way in all processes.
        """
        self._place, self._position = place, position

    def tell(self) -> None:
        """Tell the others this process's place, and that it is alive."""
        self._beats += 1
        self._store.set(f"place/{self._rank}", f"{self._position} {self._beats} {self._place}")

    def leave(self) -> None:
        """Tell the others that this process has ended its part, so that none waits for word of it."""
        self._store.set(f"place/{self._rank}", "")

    def look(self, now: float) -> None:
        """Name each process that is silent, or that has not moved although another one has gone further.

        Both after the patience, and each once for a place.

        Args:
            now: seconds of a clock that never goes back.
        """
        told = {}
        for rank in range(self._size):
            value = self._store.get(f"place/{rank}") if self._store.check([f"place/{rank}"]) else b""
            if value:
                position, beats, place = value.decode().split(" ", 2)
                told[rank] = (int(position), int(beats), place)
        for rank, (position, beats, place) in told.items():
            before = self._seen.get(rank)
            moved = now if before is None or before[0] != position else before[1]
            alive = now if before is None or before[2] != beats else before[3]
            self._seen[rank] = (position, moved, beats, alive)
            furthest = max(told, key=lambda other: told[other][0])
            silent, still = now - alive, now - moved
            if silent >= self._patience:
                line = f"has told nothing for {silent:.0f} seconds, and was at: {place}"
                self._name(rank, position, f"{line}; it is stopped, or its machine cannot be reached")
            elif position < told[furthest][0] and still >= self._patience:
                line = f"has been at: {place}, for {still:.0f} seconds"
                self._name(rank, position, f"{line}, while others wait for it at: {told[furthest][2]}")

    def _name(self, rank: int, position: int, line: str) -> None:
        if (rank, position) not in self._named:
            self._named.add((rank, position))
            self._say(f"process {rank} of {self._size} (numbers from 0) {line}")


_places: list[Places] = []
"""The places of this process's run; none where it is alone."""


def now_at(place: str, position: int) -> None:
    """Note where this process of the run is, see :meth:`Places.at`; where it is alone nothing happens."""
    for places in _places:
        places.at(place, position)


@contextmanager
def places_told(store: Any, rank: int, size: int) -> Iterator[None]:
    """Tell the others where this process is while the block runs; the main process names one that hangs."""
    places = Places(dist.PrefixStore("places", store), rank, size, lambda line: sys.stderr.write(line + "\n"))
    ended = Event()

    def watch() -> None:
        # The store may end with the main process.
        with suppress(RuntimeError, OSError):
            while not ended.wait(PERIOD):
                places.tell()
                if rank == 0:
                    places.look(time.monotonic())

    _places.append(places)
    thread = Thread(target=watch, name="places", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        _places.remove(places)
        thread.join(PERIOD)
        with suppress(RuntimeError, OSError):
            places.leave()
