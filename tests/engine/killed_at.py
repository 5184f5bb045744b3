"""Runs train_net until it is killed, resumes it until it is killed elsewhere, and so on, and then to its end.

Usage: python killed_at.py KILLS ARGUMENTS OF train_net

KILLS is a JSON list of [MODULE:NAME, COUNT, BEFORE|AFTER]: a run is killed at the COUNT-th call of the
function, before or after it has done its work. Each run is a process of its own, forked from this one, which
has imported what they need and done nothing else. ARGUMENTS begin with --config-file.
"""

import functools
import importlib
import json
import multiprocessing
import os
import runpy
import signal
import sys
from pathlib import Path

PRELOADED = ("nplp.engine.pipeline", "nplp_commands.train", "numba")


def arm(address: str, count: int, moment: str) -> None:
    """Kill the process at the ``count``-th call of a function, before or after it has done its work."""
    module_name, _, path = address.partition(":")
    owner = importlib.import_module(module_name)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    function = getattr(owner, name)
    calls = []

    @functools.wraps(function)
    def armed(*args: object, **kwargs: object) -> object:
        calls.append(1)
        if len(calls) == count and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*args, **kwargs)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, armed)


def carry_out(words: list[str], kill: list | None = None) -> int:
    """Return how a run in a new process ended: its status, or minus the signal."""
    process = multiprocessing.get_context("fork").Process(target=_run, args=(words, kill))
    process.start()
    process.join()
    return process.exitcode


def _run(words: list[str], kill: list | None) -> None:
    if kill:
        arm(*kill)
    tool = str(Path(__file__).parents[2] / "tools" / "train_net.py")
    sys.argv = [tool, *words]
    runpy.run_path(tool, run_name="__main__")


if __name__ == "__main__":
    kills, *words = sys.argv[1:]
    for name in PRELOADED:
        importlib.import_module(name)
    resumed = [*words[:2], "--resume", *words[2:]]
    for number, kill in enumerate(json.loads(kills)):
        ended = carry_out(resumed if number else words, kill)
        if ended != -signal.SIGKILL:
            sys.exit(f"the run that was to be killed by {kill} ended with {ended}")
    sys.exit(carry_out(resumed))
