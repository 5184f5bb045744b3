"""Shared by all tests: quiet threads, and small synthetic domains drawn once for the whole run."""

import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable

import pytest
import torch

from tiny import make_tiny_cfg

torch.set_num_threads(1)
if START_METHOD := os.environ.get("NPLP_TEST_START_METHOD"):
    # "spawn" as on Windows and macOS: make test-spawn.
    torch.multiprocessing.set_start_method(START_METHOD)


@pytest.fixture(scope="session")
def synthetic_root(tmp_path_factory):
    """A cache folder of the synthetic domains, shared by the processes of a parallel run."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if os.environ.get("PYTEST_XDIST_WORKER") else shared
    return shared / "synthetic"


@pytest.fixture(autouse=True)
def _messages_reach_the_tests():
    """After a run has sent the project's messages to its own handlers, let the next test hear them.

    A handler that a test before left with its captured stream, closed since, would complain of each message.
    """
    for name in (None, "nplp", "fastreid"):
        logger = logging.getLogger(name)
        for handler in list(logger.handlers):
            if getattr(getattr(handler, "stream", None), "closed", False):
                logger.removeHandler(handler)
    yield
    for name in ("nplp", "fastreid"):
        logging.getLogger(name).propagate = True


@pytest.fixture(autouse=True)
def _words_of_the_process_stay(monkeypatch):
    """A command that a test calls may change them, as `nplp` does; messages name the command by them."""
    monkeypatch.setattr(sys, "argv", list(sys.argv))


@pytest.fixture
def tiny_cfg(synthetic_root, tmp_path):
    """The quickstart's configuration, cut down to seconds."""
    return make_tiny_cfg(synthetic_root, tmp_path / "run")


@pytest.fixture
def run_script(tmp_path) -> Callable[..., str]:
    """Return a function that runs a script in a process of its own and returns what it printed."""

    def run(source: str, **environment: str) -> str:
        script = tmp_path / "script.py"
        script.write_text(textwrap.dedent(source), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, str(script)],
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run
