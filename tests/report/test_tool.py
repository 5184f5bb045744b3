"""The command that writes a run's page, once or as long as it goes on."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from nplp.command_line import run_tool

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def tool():
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("report_tool", TOOLS / "report.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(finished_run, tmp_path):
    shutil.copytree(finished_run, tmp_path / "run", ignore=shutil.ignore_patterns("*.pth", "report.html"))
    return tmp_path / "run"


def call(tool, monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["report.py", *map(str, words)])
    run_tool(tool.build_parser(), tool.main)


def test_it_says_where_the_page_is(tool, folder, monkeypatch, capsys):
    call(tool, monkeypatch, folder)
    assert capsys.readouterr().out == f"{folder / 'report.html'}\n"
    assert "http-equiv" not in (folder / "report.html").read_text()


def test_help_suffices(tool, monkeypatch, capsys):
    with pytest.raises(SystemExit) as end:
        call(tool, monkeypatch, "--help")
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert "--watch" in shown
    assert "examples" in shown


def test_watching_goes_on_until_the_run_has_ended(tool, folder, monkeypatch, capsys):
    path = folder / "results.json"
    results = json.loads(path.read_text())
    path.write_text(json.dumps({"direct_transfer": results["direct_transfer"]}))
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        assert '<meta http-equiv="refresh"' in (folder / "report.html").read_text()
        if len(waited) == 2:
            path.write_text(json.dumps(results))

    monkeypatch.setattr(tool.time, "sleep", sleep)
    call(tool, monkeypatch, folder, "--watch")
    assert waited == [tool.PAUSE] * 2
    assert capsys.readouterr().out.count("report.html") == 2
    assert "http-equiv" not in (folder / "report.html").read_text()
