"""What the tests of the bridges share."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable

import pytest

from nplp import host

# Before the test modules, which import the toolbox at their top.
host.apply()


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
