"""Runs train_net with a function that kills the process, or fails, when it is called for the n-th time.

Usage: python killed_at.py MODULE:NAME COUNT BEFORE|AFTER ARGUMENTS OF train_net
"""

import functools
import importlib
import os
import runpy
import signal
import sys
from pathlib import Path


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


if __name__ == "__main__":
    address, count, moment, *words = sys.argv[1:]
    from nplp.host import require_fastreid

    require_fastreid()
    arm(address, int(count), moment)
    tool = str(Path(__file__).parents[2] / "tools" / "train_net.py")
    sys.argv = [tool, *words]
    runpy.run_path(tool, run_name="__main__")
