"""Several threads, and a second process that competes with them: where orders of addition show."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def two_busy_threads() -> Iterator[None]:
    """Give torch two threads, and keep a core busy with another process meanwhile."""
    before = torch.get_num_threads()
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            torch.set_num_threads(2)
            yield
        finally:
            torch.set_num_threads(before)
            other.kill()
