"""What a signal does to one process, and what a checkpoint keeps of several."""

import logging
import os
import signal

import pytest

from nplp.engine.interruption import Interrupted, stopped_by_signals
from nplp.engine.trainer import ReidTrainer


def test_a_signal_that_comes_twice_does_not_cut_off_the_leaving():
    """As from a terminal and from the process that started this one."""
    done = []

    def block():
        with stopped_by_signals():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)
                done.append("left in order")

    with pytest.raises(Interrupted, match="SIGTERM"):
        block()
    assert done == ["left in order"]
    # A new block takes the next signal, however soon it comes.
    with pytest.raises(Interrupted, match="SIGTERM"):
        block()


@pytest.mark.parametrize(
    ("saved", "rank", "size", "expected"),
    [
        ({"random_state": [{"a": 1}, {"a": 2}], "processes": 2}, 1, 2, {"a": 2}),
        ({"random_state": {"a": 1}}, 0, 1, {"a": 1}),
        ({"processes": 2}, 0, 2, None),
        ({"random_state": [{"a": 1}, {"a": 2}], "processes": 2}, 0, 1, None),
        ({"random_state": [{"a": 1}], "processes": 1}, 1, 2, None),
    ],
    ids=["its own", "of one process, as it was written before", "at an epoch's end", "fewer", "more"],
)
def test_each_process_gets_its_own_generators_back(monkeypatch, caplog, saved, rank, size, expected):
    monkeypatch.setattr("nplp.engine.trainer.comm.get_rank", lambda: rank)
    monkeypatch.setattr("nplp.engine.trainer.comm.get_world_size", lambda: size)
    logging.getLogger("nplp").propagate = True
    with caplog.at_level(logging.WARNING):
        assert ReidTrainer._own_random_state(saved) == expected
    assert ("not on its bits" in caplog.text) == (saved.get("processes", size) != size)
