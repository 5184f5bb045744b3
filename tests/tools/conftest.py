"""Calls a tool's command line within the test's own process."""

import importlib.util
import sys
from pathlib import Path

import pytest

from nplp.command_line import run_tool

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture(scope="session")
def load_tool():
    """Return a function that imports ``tools/NAME.py``."""

    def load(name):
        spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def call_tool(monkeypatch, capsys):
    """Return a function that calls a tool with words and returns its exit code and what it showed."""

    def call(tool, words):
        monkeypatch.setattr(sys, "argv", [f"{tool.__name__}.py", *words])
        code = 0
        try:
            if hasattr(tool, "command_line"):
                tool.command_line()
            else:
                run_tool(tool.build_parser(), tool.main)
        except SystemExit as end:
            code = end.code
        return code, capsys.readouterr()

    return call
