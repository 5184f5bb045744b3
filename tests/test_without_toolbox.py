"""Where fastreid is not installed the pure parts work, and the rest says what to install."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nplp_commands.main import COMMANDS

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


WORDS = {
    "doctor": "images",
    "adapt": "--images images --weights w.pth --output new",
    "embed": "--images images --model bundle --output new.npz",
    "index": "--images images --model bundle --output new",
    "search": "images/a.jpg --index index",
    "group": "--images images --model bundle --output new.csv",
    "train": "quickstart",
    "export": "--config-file quickstart --output new",
    "zoo": "list",
    "report": "run",
    "reproduce": "table1 --dry-run",
}
"""What is typed after each command that needs the toolbox."""
ALONE = {"cluster", "compile", "crops", "env", "synthetic"}
"""Commands that work without it."""
EVERY = """
import sys, traceback
from nplp_commands.main import command_line
for words in WORDS:
    try:
        command_line(words.split())
        print(words, "did not end")
    except SystemExit as end:
        print(words, end.code, file=sys.stderr)
"""


def test_every_command_that_needs_it_says_so_in_one_line():
    assert WORDS.keys() | ALONE == COMMANDS.keys()
    done = run(f"WORDS = {[f'{name} {words}' for name, words in WORDS.items()]}\n{EVERY}")
    assert (done.stdout, done.returncode) == ("", 0), done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 2 * len(WORDS)
    for (name, words), said, code in zip(WORDS.items(), lines[::2], lines[1::2], strict=True):
        assert said.startswith(f"nplp {name}: this part of nplp needs fastreid 1.4.0")
        assert said.endswith("pip install --no-deps fastreid==1.4.0")
        assert code == f"{name} {words} 2"


def test_the_pseudo_label_stage_works_from_files(tmp_path):
    np.save(tmp_path / "features.npy", np.repeat(np.eye(4), 8, axis=0))
    np.save(tmp_path / "cameras.npy", np.arange(32) % 4)
    words = ["features.npy", "--cameras", "cameras.npy", "--out", "labels.npz", "--alpha", "0.1"]
    code = f"import os; os.chdir({str(tmp_path)!r})\nfrom nplp_commands.main import command_line\n"
    done = run(f"{code}command_line({['cluster', *words, '--distance', 'euclidean']})")
    assert done.returncode == 0, done.stderr
    labels = np.load(tmp_path / "labels.npz")["labels"].reshape(4, 8)
    assert (labels == labels[:, :1]).all()
    assert sorted(labels[:, 0]) == [0, 1, 2, 3]
