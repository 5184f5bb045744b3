"""Commands as the command nplp starts them, an untrained run and crops."""

import sys

import pytest

from nplp_commands.main import command_line
from untrained import draw_crops, make_run


@pytest.fixture
def nplp(monkeypatch, capsys):
    """Return a function that calls nplp with words and returns its exit code and what it showed."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["/somewhere/bin/nplp", *map(str, words)])
        code = 0
        try:
            command_line()
        except SystemExit as end:
            code = end.code
        return code or 0, capsys.readouterr()

    return call


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """A run's folder."""
    folder = tmp_path_factory.mktemp("command_runs") / "site"
    make_run(folder)
    return folder


@pytest.fixture
def crops(tmp_path, monkeypatch):
    """The folder ``crops``, with 60 crops of 6 people in 2 cameras, in the current one."""
    monkeypatch.chdir(tmp_path)
    draw_crops(tmp_path / "crops")
    return tmp_path / "crops"
