"""A process that hangs is named with where it is and what waits for it; one that works is not."""

import os
import subprocess
import sys
import textwrap

import pytest
import torch.distributed as dist

from nplp.distributed.waiting import Places

SCRIPT = """
    import os, sys, signal, time
    from nplp.distributed import waiting
    from nplp.distributed.processes import launch
    import torch, torch.distributed as dist
    from fastreid.utils import comm

    def main():
        waiting.now_at("epoch 1, step 1", 2)
        dist.barrier()
        if comm.get_rank() == 1:
            time.sleep(6)
        waiting.now_at("epoch 1, step 2", 4)
        dist.barrier()

    waiting.PERIOD, waiting.TIME_TO_NAME = 0.2, 1.5
    waiting.Places.__init__.__defaults__ = (1.5,)
    if __name__ == "__main__":
        launch(main, 2, args=(), device="cpu")
"""


@pytest.fixture
def two():
    """The places of two processes that share a store, and what the first has said."""
    store, said = dist.HashStore(), []
    return [Places(store, rank, 2, said.append, patience=60) for rank in (0, 1)], said


def tell(places):
    for each in places:
        each.tell()


def test_one_that_stays_behind_is_named_once(two):
    places, said = two
    for each in places:
        each.at("epoch 1, step 1", 2)
    places[0].at("the network, and what it exchanges", 3)
    for now in (0, 59, 61, 90):
        tell(places)
        places[0].look(now)
    assert said == [
        "process 1 of 2 (numbers from 0) has been at: epoch 1, step 1, for 61 seconds, while others wait for "
        "it at: the network, and what it exchanges"
    ]
    places[1].at("the network, and what it exchanges", 3)
    for now in (100, 200):
        tell(places)
        places[0].look(now)
    assert len(said) == 1


def test_one_that_is_slow_is_not_named(two):
    places, said = two
    for now in range(0, 400, 50):
        for number, each in enumerate(places):
            each.at("a step", 3 * now - number)
        tell(places)
        places[0].look(now)
    assert said == []


def test_nobody_is_named_while_all_work_long(two):
    places, said = two
    for now in (0, 100, 200):
        tell(places)
        places[0].look(now)
    assert said == []


def test_one_that_is_stopped_is_named(two):
    places, said = two
    tell(places)
    for now in (0, 30, 61):
        places[0].tell()
        places[0].look(now)
    assert said == [
        "process 1 of 2 (numbers from 0) has told nothing for 61 seconds, and was at: the start; it is "
        "stopped, or its machine cannot be reached"
    ]


def test_one_that_has_ended_is_not_named(two):
    places, said = two
    tell(places)
    places[1].leave()
    for now in (0, 100, 200):
        places[0].tell()
        places[0].look(now)
    assert said == []


def test_one_that_has_not_told_yet_is_waited_for(two):
    places, said = two
    for now in (0, 100):
        places[0].tell()
        places[0].look(now)
    assert said == []


def test_in_a_run_of_two_processes_the_one_that_hangs_is_named(tmp_path):
    script = tmp_path / "hangs.py"
    script.write_text(textwrap.dedent(SCRIPT), encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    named = [line for line in done.stderr.splitlines() if line.startswith("process ")]
    assert len(named) == 1
    assert named[0].startswith("process 1 of 2 (numbers from 0) has been at: epoch 1, step 1, for ")
    assert named[0].endswith("while others wait for it at: epoch 1, step 2")
