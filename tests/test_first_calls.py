"""Importing the package leaves torch nothing to choose when several threads call a function at once.

What went wrong without it shows in one of three runs of test_repeatability.py on two busy cores.
"""

import subprocess
import sys

PROGRAM = """
import threading
import torch
from importlib.util import find_spec

names = ("sqrt", "exp", "log", "sin", "cos", "tanh", "erf", "erfinv", "log1p", "expm1", "acos")
seen = {name: set() for name in names}

def watched(name, function):
    def call(value, *args, **kwargs):
        assert value.numel() == 1 and value.is_contiguous() and threading.active_count() == 1
        seen[name].add(value.dtype)
        return function(value, *args, **kwargs)
    return call

for name in names:
    setattr(torch, name, watched(name, getattr(torch, name)))
import nplp.first_calls
assert all(types == {torch.float32, torch.float64} for types in seen.values()), seen
"""


def test_importing_the_package_calls_each_function_once_from_one_thread():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
