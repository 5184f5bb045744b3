"""The page on using a model: its code runs in order, and so do its commands, on an untrained model."""

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from nplp_commands.main import command_line
from untrained import draw_crops, make_run

PAGE = Path(__file__).parents[2] / "docs" / "use_a_model.md"


def blocks(language):
    """Return the page's blocks of code in a language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The current folder, with what the page names."""
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs" / "site")
    crops = draw_crops(tmp_path / "crops")
    shutil.copy(crops[0], tmp_path / "query.png")
    return tmp_path


def test_the_commands_run_and_then_the_code(place, monkeypatch, capsys):
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    assert len(lines) == 5
    for line in lines:
        monkeypatch.setattr(sys, "argv", shlex.split(line))
        command_line()
    names = {path.name for path in place.iterdir()}
    assert names >= {"embeddings.npz", "people.index", "hits.html", "groups.csv", "people", "groups.html"}
    capsys.readouterr()
    found = {}
    python = blocks("python")
    assert len(python) == 6
    for block in python:
        exec(compile(block, str(PAGE), "exec"), found)
    shown = capsys.readouterr().out
    assert "model_final.pth of the run site (32, 16) 32 None" in shown
    assert len(re.findall(r"^0\.\d{3}|^1\.000", shown, re.MULTILINE)) == 5
    assert "(60,) (60, 32)" in shown
    assert found["labels"].shape == (60,)
    assert set(found["hits"].cameras[0]).isdisjoint(found["cameras"][:1])


def test_the_files_that_the_page_leads_to_are_there():
    links = re.findall(r"\]\(([\w.]+\.md)", PAGE.read_text(encoding="utf-8"))
    assert len(links) >= 3
    assert [link for link in links if not (PAGE.parent / link).exists()] == []
