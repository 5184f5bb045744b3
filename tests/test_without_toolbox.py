"""Where fastreid is not installed the pure parts work, and the rest says what to install."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HIDE = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name.split(".")[0] == "fastreid" else find(name, *rest)
sys.modules["fastreid"] = None
"""
PURE = """
import numpy as np
from nplp.clustering import estimate_pseudo_labels
from nplp_synthetic import DomainSpec
from nplp.layers import HyperNetwork
from nplp.losses import CenterContrastiveLoss
points = np.repeat(np.eye(4), 8, axis=0)
assert estimate_pseudo_labels(points, np.arange(32) % 4, alpha=0.1, distance="euclidean").num_clusters == 4
"""


def run(code):
    return subprocess.run(
        [sys.executable, "-c", HIDE + code],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_pure_parts_work_alone():
    done = run(PURE)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "asked", ["from nplp import add_nplp_config", "import nplp.engine", "import nplp.modeling"]
)
def test_the_rest_says_what_to_install(asked):
    done = run(asked)
    assert "pip install --no-deps fastreid==1.4.0" in done.stderr.strip().splitlines()[-1]


def test_the_tool_says_it_in_one_line():
    config = "configs/NPLP/quickstart.yml"
    done = run(
        f"sys.argv = ['train_net.py', '--config-file', {config!r}]\n"
        "import runpy\nrunpy.run_path('tools/train_net.py', run_name='__main__')"
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install --no-deps fastreid==1.4.0" in done.stderr
