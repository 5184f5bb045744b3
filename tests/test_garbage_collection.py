"""Importing the package makes hardly a search for cycles, and leaves Python's collector as it found it."""

import gc
import subprocess
import sys

import pytest

from nplp.garbage_collection import collection_paused

PROGRAM = """
import gc
gc.{state}()
searches = []
gc.callbacks.append(lambda phase, info: searches.append(phase))
import nplp
gc.callbacks.clear()
# Before the pause begins there are some ten, each with its begin and its end; without one there are hundreds.
assert len(searches) < 40, len(searches)
assert gc.isenabled() is (gc.{state} is gc.enable)
"""


@pytest.mark.parametrize("state", ["enable", "disable"])
def test_the_import_makes_hardly_a_search_and_the_collector_stays_as_it_was(state):
    code = PROGRAM.format(state=state)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_collector_is_on_again_after_an_error():
    with pytest.raises(KeyError), collection_paused():
        raise KeyError
    assert gc.isenabled()
