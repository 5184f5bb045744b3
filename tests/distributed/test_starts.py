"""Processes that torchrun starts together agree on which start it is, whatever earlier ones left behind."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch.distributed as dist

from nplp.distributed.starts import agree_on_start


def start(store, size, ranks=None, late=0):
    """Let processes start together, one of them a little later; return what each of them is told."""

    def come(rank):
        time.sleep(0.1 * (rank == late))
        return agree_on_start(store, rank, size, 1.0)

    with ThreadPoolExecutor(size) as threads:
        return list(threads.map(come, range(size) if ranks is None else ranks))


@pytest.fixture
def store():
    store = dist.HashStore()
    store.set_timeout(timedelta(seconds=1))
    return store


@pytest.mark.parametrize("late", [0, 1])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_all_are_told_the_same_and_each_start_something_else(store, size, late):
    names = set()
    for earlier in range(3):
        told = start(store, size, late=late)
        assert len(set(told)) == 1
        assert told[0][1] == earlier
        names.add(told[0][0])
    assert len(names) == 3


def test_a_process_that_died_while_it_called_disturbs_no_later_start(store):
    with pytest.raises(dist.DistStoreError):
        start(store, 3, ranks=[1])
    told = start(store, 3)
    assert len(set(told)) == 1


def test_processes_that_do_not_come_are_not_waited_for_without_end(store):
    with pytest.raises(TimeoutError):
        start(store, 3, ranks=[0])


def test_the_call_of_an_earlier_start_counts_for_nothing(store):
    start(store, 2)
    # Its process of the number 1 is the only one that never comes.
    with pytest.raises(TimeoutError):
        agree_on_start(store, 0, 2, 0.2)
