"""Calls a tool's command line within the test's own process."""

import importlib.util
import logging
import sys
from pathlib import Path

import pytest

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
def usual_logging():
    """Undo what a tool does to the loggers: its handlers write to a screen that is gone after the test."""
    loggers = [logging.getLogger(name) for name in ("nplp", "fastreid")]
    before = [(log, log.level, log.propagate, list(log.handlers)) for log in loggers]
    yield
    for log, level, propagate, handlers in before:
        log.setLevel(level)
        log.propagate, log.handlers = propagate, handlers


@pytest.fixture
def call_tool(monkeypatch, capsys, usual_logging):
    """Return a function that calls a tool with words and returns its exit code and what it showed."""

    def call(tool, words):
        monkeypatch.setattr(sys, "argv", [f"{tool.__name__}.py", *words])
        code = 0
        try:
            tool.command_line()
        except SystemExit as end:
            code = end.code
        return code, capsys.readouterr()

    return call
