"""``nplp group``: the table, the folders and the page of groups."""

import csv
import os
from pathlib import Path

import pytest

from untrained import person_of


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_people_become_groups(nplp, run_folder, crops):
    code, shown = nplp(
        *("group", "--model", run_folder, "--images", "crops", "--people", "6", "--output", "g.csv"),
        *("--copy-to", "people", "--html", "g.html"),
    )
    assert code == 0, shown.err
    rows = rows_of("g.csv")
    assert len(rows) == 60
    assert set(rows[0]) == {"path", "camera", "group"}
    groups = {}
    for row in rows:
        groups.setdefault(row["group"], []).append(row)
    people = {name: {person_of(row["path"]) for row in held} for name, held in groups.items() if name}
    assert len(people) >= 4
    assert all(len(who) == 1 for who in people.values())
    for name, held in groups.items():
        folder = f"people/group_{int(name):04d}" if name else "people/no_group"
        assert sorted(os.listdir(folder)) == sorted(os.path.basename(row["path"]) for row in held)
        copied = os.path.join(folder, os.path.basename(held[0]["path"]))
        assert Path(copied).read_bytes() == Path(held[0]["path"]).read_bytes()
    assert f"{len(people)} groups" in shown.out
    assert Path("g.html").read_text(encoding="utf-8").count("<section") == len(people)


def test_without_a_guess_with_links_and_equal_names(nplp, run_folder, crops):
    for camera in ("gate", "hall é"):
        for number, path in enumerate(sorted((crops / camera).iterdir())):
            path.rename(path.with_name(f"{number}.png"))
    words = ("--output", "g.csv", "--copy-to", "people", "--link")
    code, shown = nplp("group", "--model", run_folder, "--images", "crops", *words)
    assert code == 0, shown.err
    links = [os.path.join(top, name) for top, _, names in os.walk("people") for name in names]
    assert len(links) == 60
    assert all(os.path.islink(link) for link in links)
    assert len({os.path.realpath(link) for link in links}) == 60


def test_one_camera_is_said(nplp, run_folder, crops):
    code, shown = nplp("group", "--model", run_folder, "--images", "crops/gate", "--output", "g.csv")
    assert code == 0, shown.err
    assert "without several cameras" in shown.out
    assert len(rows_of("g.csv")) == 30


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--output", "g.csv", "--people", "0"], "--people must be at least 1, got 0"),
        (["--output", "g.csv", "--min-images", "-1"], "--min-images must be at least 1, got -1"),
        (["--output", "g.csv", "--copy-to", "crops"], "--copy-to 'crops' is there already and not empty"),
        (["--output", "g.csv", "--link"], "--link is for the folders of --copy-to"),
        (["--output", "g.tsv"], "--output must end in .csv"),
        (["--output", "g.csv", "--html", "crops"], "--html must end in .html"),
        (["--output", "g.csv", "--people", "many"], "invalid int value: 'many'"),
    ],
)
def test_a_mistake_is_one_line(nplp, run_folder, crops, words, said):
    code, shown = nplp("group", "--model", run_folder, "--images", "crops", *words)
    assert code == 2
    assert shown.err.startswith("nplp group: ")
    assert said in shown.err
    assert shown.err.count("\n") == 1
    assert os.listdir() == ["crops"]


def test_a_disk_that_fills_leaves_nothing(nplp, run_folder, crops, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copy2", full)
    words = ("--output", "g.csv", "--copy-to", "people")
    code, shown = nplp("group", "--model", run_folder, "--images", "crops", *words)
    assert code == 2
    assert "'people' cannot be written (No space left on device)" in shown.err
    assert os.listdir() == ["crops"]
