"""Work shared by plain threads, each with single-threaded products.

Compiled kernels and matrix products release Python's lock, so that threads which take whole blocks run side
by side, without the switching between thread pools that a parallel product inside a parallel loop costs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from threading import Lock
from typing import TypeVar

import torch
from tqdm import tqdm

__all__ = ["Progress", "row_blocks", "run_blocks"]

Item = TypeVar("Item")
_WAIT_SECONDS = 0.05


class Progress:
    """Progress bars on the standard error for the steps of one call; silent where it is no terminal."""

    def __init__(self, shown: bool = False) -> None:
        self.shown = shown

    @contextmanager
    def step(self, name: str, total: int) -> Iterator[Callable[[int], object]]:
        """Show a bar of `total` units while the block runs; it gives a function that moves the bar on."""
        # tqdm reads None as: only where the standard error is a terminal.
        with tqdm(
            total=total, desc=name, leave=False, disable=None if self.shown else True, unit_scale=True
        ) as bar:
            yield bar.update


def row_blocks(count: int, rows: int) -> list[tuple[int, int]]:
    """Return ranges (start, stop) of at most `rows` that cover 0..count-1."""
    return [(start, min(start + rows, count)) for start in range(0, count, rows)]


def run_blocks(items: Sequence[Item], make_worker: Callable[[], Callable[[Item], object]]) -> None:
    """Work through items in any order, with as many threads as torch would use.

    Args:
        items: the next free thread takes the next one.
        make_worker: called once in each thread; returns a function that does one item. Buffers belong in it.

    Raises:
        Exception: the first that a worker raised; items that had not begun are then left out.
    """
    threads = min(torch.get_num_threads(), len(items))
    if threads <= 1:
        _work(iter(items), Lock(), make_worker)
        return
    with _single_threaded_products(), ThreadPoolExecutor(threads) as pool:
        queue, lock = iter(items), Lock()
        with _emptied_on_error(queue, lock):
            runs = [pool.submit(_work, queue, lock, make_worker) for _ in range(threads)]
            unfinished = set(runs)
            while unfinished:
                # With a timeout, because a signal may reach a thread that cannot wake this one.
                unfinished = wait(unfinished, timeout=_WAIT_SECONDS).not_done
            for run in runs:
                run.result()


def _work(queue: Iterator[Item], lock: Lock, make_worker: Callable[[], Callable[[Item], object]]) -> None:
    """Do items of a shared queue until it is empty."""
    with _emptied_on_error(queue, lock):
        worker = make_worker()
        for item in _shared(queue, lock):
            worker(item)


@contextmanager
def _emptied_on_error(queue: Iterator[Item], lock: Lock) -> Iterator[None]:
    """Leave nothing in the queue for other threads to begin after an error or an interruption."""
    try:
        yield
    except BaseException:
        with lock:
            deque(queue, maxlen=0)
        raise


def _shared(queue: Iterator[Item], lock: Lock) -> Iterable[Item]:
    """Yield items that no other thread has taken."""
    missing = object()
    while True:
        with lock:
            item = next(queue, missing)
        if item is missing:
            return
        yield item  # type: ignore[misc]


@contextmanager
def _single_threaded_products() -> Iterator[None]:
    """Give every thread of a pool products of its own, and torch its threads back afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
