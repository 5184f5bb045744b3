"""The mains of tools start modules of the library, which start by themselves from any folder too."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.mark.parametrize("path", sorted(TOOLS.glob("*.py")), ids=lambda path: path.stem)
def test_a_main_only_starts_its_command(load_tool, path):
    main = load_tool(path.stem)
    assert main.command_line.__module__.startswith(("nplp_commands.", "nplp_experiments."))
    defined = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
    assert defined == []


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("nplp_commands.train", "train_net: --config-file is missing"),
        ("nplp_experiments", "reproduce: no experiment was named"),
    ],
)
def test_a_command_starts_from_any_folder(tmp_path, module, message):
    done = subprocess.run(
        [sys.executable, "-m", module],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (2, 1, "")
    assert done.stderr.startswith(message)
