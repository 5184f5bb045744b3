"""Blocks of work shared by threads, and the bars that show how far it is."""

from __future__ import annotations

import io
import os
import signal
import time
from collections.abc import Callable, Iterator
from threading import Barrier, Lock

import numpy as np
import pytest
import torch
from clustering_cases import threads

from nplp.clustering.sweep.parallel import Progress, row_blocks, run_blocks

LONG = 1000


class Terminal(io.StringIO):
    """A standard error that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("count", "rows"), [(0, 3), (1, 3), (3, 3), (4, 3), (10, 1), (7, 100)])
def test_row_blocks_cover_all_rows_in_order(count: int, rows: int) -> None:
    blocks = row_blocks(count, rows)
    assert [row for start, stop in blocks for row in range(start, stop)] == list(range(count))
    assert all(0 < stop - start <= rows for start, stop in blocks)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [0, 1, 3, 200])
def test_each_item_is_done_once(number: int, count: int) -> None:
    times = np.zeros(count, dtype=int)
    lock = Lock()

    def work(item: int) -> None:
        with lock:
            times[item] += 1

    with threads(number):
        run_blocks(range(count), lambda: work)
    np.testing.assert_array_equal(times, 1)


@pytest.mark.parametrize(("number", "count", "workers"), [(1, 5, 1), (2, 5, 2), (4, 3, 3), (4, 1, 1)])
def test_there_is_one_worker_for_each_thread_that_has_work(number: int, count: int, workers: int) -> None:
    made = []

    def make_worker() -> Callable[[int], object]:
        made.append(True)
        return lambda item: None

    with threads(number):
        run_blocks(range(count), make_worker)
    assert len(made) == workers


@pytest.mark.parametrize("number", [2, 3, 4])
def test_threads_work_at_the_same_time(number: int) -> None:
    # Nobody passes the barrier before all threads are at work.
    barrier = Barrier(number, timeout=20)
    with threads(number):
        run_blocks(range(number), lambda: lambda item: barrier.wait())
    assert not barrier.broken


@pytest.mark.parametrize("number", [1, 2, 3])
def test_products_have_one_thread_meanwhile_and_the_callers_number_afterwards(number: int) -> None:
    seen = []
    with threads(number):
        run_blocks(range(9), lambda: lambda item: seen.append(torch.get_num_threads()))
        assert torch.get_num_threads() == number
    assert seen == [1] * 9


@pytest.mark.parametrize("number", [1, 2, 4])
def test_the_error_of_a_worker_ends_the_work_and_reaches_the_caller(number: int) -> None:
    done = []

    def work(item: int) -> None:
        if item == 3:
            raise MemoryError("item 3")
        time.sleep(0.001)
        done.append(item)

    with threads(number):
        with pytest.raises(MemoryError, match="item 3"):
            run_blocks(range(LONG), lambda: work)
        assert torch.get_num_threads() == number
    assert len(done) < LONG / 2


@pytest.mark.parametrize("number", [1, 2, 4])
def test_the_error_of_making_a_worker_ends_the_work_and_reaches_the_caller(number: int) -> None:
    made, done = [], []

    def work(item: int) -> None:
        time.sleep(0.001)
        done.append(item)

    def make_worker() -> Callable[[int], object]:
        made.append(True)
        if len(made) == number:
            raise MemoryError("no room for buffers")
        return work

    with threads(number):
        with pytest.raises(MemoryError, match="no room for buffers"):
            run_blocks(range(LONG), make_worker)
        assert torch.get_num_threads() == number
    assert len(done) < LONG / 2


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let SIGINT interrupt, which it does not in a process that a shell started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_interruption_leaves_out_what_had_not_begun(number: int) -> None:
    done = []

    def work(item: int) -> None:
        if item == 3:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.002)
        done.append(item)

    with threads(number):
        with pytest.raises(KeyboardInterrupt):
            run_blocks(range(LONG), lambda: work)
        assert torch.get_num_threads() == number
    assert len(done) < LONG / 2


@pytest.mark.parametrize(
    ("stderr", "progress", "shown"),
    [
        (io.StringIO, Progress(True), False),
        (Terminal, Progress(False), False),
        (Terminal, Progress(), False),
        (Terminal, Progress(True), True),
    ],
)
def test_bars_are_shown_on_request_and_on_terminals_only(
    monkeypatch: pytest.MonkeyPatch, stderr: type[io.StringIO], progress: Progress, shown: bool
) -> None:
    stream = stderr()
    monkeypatch.setattr("sys.stderr", stream)
    with progress.step("neighbours", 10) as advance:
        advance(10)
    assert ("neighbours" in stream.getvalue()) == shown
    # A bar that is done leaves the line as it was.
    assert "\n" not in stream.getvalue()
