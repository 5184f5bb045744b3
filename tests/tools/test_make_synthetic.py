"""The command line of the synthetic domains: help and results."""

from pathlib import Path

import pytest
from PIL import Image

from nplp.data.own_images import read_image_table
from nplp_commands.synthetic import build_parser
from nplp_synthetic import DOMAINS

SMALL = "--identities 2 --images-per-identity 4 --cameras 2 --size 32x32 --distractors 1 --junk 1 --workers 1"


@pytest.fixture
def tool(load_tool):
    return load_tool("make_synthetic")


@pytest.fixture
def call(tool, call_tool, monkeypatch, tmp_path):
    monkeypatch.setenv("NPLP_CACHE", str(tmp_path / "cache"))
    return lambda *arguments: call_tool(tool, [word for text in arguments for word in str(text).split()])


def test_help_suffices(call):
    code, shown = call("--help")
    assert code == 0
    options = [option for action in build_parser()._actions for option in action.option_strings]
    for word in (*options, "examples", "NPLP_CACHE", "manifest.json"):
        assert word in shown.out


def test_all_domains_are_rendered_into_the_cache_and_their_folders_printed(call, tmp_path):
    code, shown = call(SMALL)
    folders = [Path(line) for line in shown.out.splitlines()]
    assert code == 0
    assert shown.err == ""
    assert [folder.name.split("-")[0] for folder in folders] == list(DOMAINS)
    for folder in folders:
        assert folder.parent == tmp_path / "cache"
        assert (folder / "manifest.json").is_file()
        assert len(list(folder.rglob("*.jpg"))) == 4 * 4 + 2
    assert call(SMALL) == (0, shown)


def test_output_seed_and_difficulty_are_passed_on(call, tmp_path):
    folders = set()
    for option in ("", "--seed 1", "--difficulty 0.5", "--size 40x32"):
        code, shown = call(SMALL, "--domain station --output", tmp_path / "own", option)
        assert code == 0
        folders.add(Path(shown.out.strip()))
    assert len(folders) == 4
    assert {folder.parent for folder in folders} == {tmp_path / "own"}


def test_a_sheet_has_a_row_a_person_and_a_column_a_camera(call, tmp_path):
    code, shown = call(SMALL, "--domain plaza --sheet-only --sheet", tmp_path / "look.png")
    assert (code, shown.out.strip()) == (0, str(tmp_path / "look.png"))
    with Image.open(tmp_path / "look.png") as sheet:
        assert sheet.size == (2 * (2 * 32 + 2) + 2, 4 * (32 + 2) + 2)
    assert not (tmp_path / "cache").exists()


def test_each_domain_has_its_sheet(call, tmp_path):
    code, shown = call(SMALL, "--sheet", tmp_path / "look.png")
    assert code == 0
    assert shown.out.splitlines()[1::2] == [str(tmp_path / f"look-{name}.png") for name in DOMAINS]


def test_a_table_of_tracks_is_read_as_own_images(call, tmp_path):
    path = tmp_path / "gates-🎥.csv"
    code, shown = call(SMALL, "--domain station --track-length 2", "--table", path)
    assert code == 0
    assert shown.out.splitlines()[1] == str(path)
    table = read_image_table(path)
    assert len(table) == 4 * 4
    assert len(set(zip(table.cameras, table.tracks, strict=True))) == 8
    assert set(table.splits) == {"train", "query", "gallery"}
    assert table.times is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--track-length 0", "track length must be at least 1, got 0"),
        ("--wrong-tracks 2", "wrong tracks must be a share in [0, 1], got 2"),
        ("--sheet-only --sheet s.png", "--table needs the images"),
    ],
)
def test_a_table_that_cannot_be_is_refused_before_anything_is_drawn(call, tmp_path, options, message):
    code, shown = call(SMALL, "--domain station --table", tmp_path / "table.csv", options)
    assert code == 2
    assert message in shown.err
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "table.csv").exists()
