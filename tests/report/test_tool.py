"""The command that writes a run's page, once or as long as it goes on."""

import json
import shutil
import sys

import pytest

from nplp_commands import report


@pytest.fixture
def folder(finished_run, tmp_path):
    shutil.copytree(finished_run, tmp_path / "run", ignore=shutil.ignore_patterns("*.pth", "report.html"))
    return tmp_path / "run"


def call(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["report.py", *map(str, words)])
    report.command_line()


def test_it_says_where_the_page_is(folder, monkeypatch, capsys):
    call(monkeypatch, folder)
    assert capsys.readouterr().out == f"{folder / 'report.html'}\n"
    assert "http-equiv" not in (folder / "report.html").read_text()


def test_help_suffices(monkeypatch, capsys):
    with pytest.raises(SystemExit) as end:
        call(monkeypatch, "--help")
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert "--watch" in shown
    assert "examples" in shown


def test_watching_goes_on_until_the_run_has_ended(folder, monkeypatch, capsys):
    path = folder / "results.json"
    results = json.loads(path.read_text())
    path.write_text(json.dumps({"direct_transfer": results["direct_transfer"]}))
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        assert '<meta http-equiv="refresh"' in (folder / "report.html").read_text()
        if len(waited) == 2:
            path.write_text(json.dumps(results))

    monkeypatch.setattr(report.time, "sleep", sleep)
    call(monkeypatch, folder, "--watch")
    assert waited == [report.PAUSE] * 2
    assert capsys.readouterr().out.count("report.html") == 2
    assert "http-equiv" not in (folder / "report.html").read_text()
