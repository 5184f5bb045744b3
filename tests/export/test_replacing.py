"""A bundle takes the place of another, and a kill in between is no dead end."""

import shutil
from pathlib import Path

import pytest

from nplp.export.bundle import _check_folder, _move
from nplp.weights.zoo import read_bundle, write_sums


class Killed(BaseException):
    """Ends the work as a kill does: nothing of the project catches it."""


def make(folder, **files):
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    write_sums(folder)
    return folder


@pytest.mark.parametrize("moves", range(3))
def test_what_was_cut_short_can_be_done_again(tmp_path, monkeypatch, moves):
    output = make(tmp_path / "bundle", weights="old", program="old")
    (output / "notes").write_text("mine")
    first = make(tmp_path / "first", weights="new", config="new")
    second = shutil.copytree(first, tmp_path / "second")
    replace, done = Path.replace, []

    def killed(path, target):
        if len(done) == moves:
            raise Killed
        done.append(target)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(Killed):
        _move(first, output)
    monkeypatch.undo()
    _check_folder(output, force=True)
    _move(second, output)
    sums = read_bundle(output).sums
    assert sums.keys() == {"weights", "config"}
    assert {path.name for path in output.iterdir()} == {*sums, "SHA256SUMS", "notes"}
    assert (output / "weights").read_text() == "new"
