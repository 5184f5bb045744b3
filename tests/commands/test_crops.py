"""Crops of a tracker's boxes: what is cut, what the table says, and mistakes that leave nothing behind."""

import csv
import math
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nplp.data import crops as cutting
from nplp.data.own_images import read_image_table
from nplp_commands import crops as command_module
from nplp_commands.main import command_line as nplp

WIDTH, HEIGHT, FRAMES = 60, 100, 4


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Four frames, in each pixel the numbers of its frame, row and column, in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "img1").mkdir()
    for frame in range(1, FRAMES + 1):
        frame_of(frame).save(tmp_path / "img1" / f"{frame:06d}.png")
    (tmp_path / "img1" / "seqinfo.ini").write_text("[Sequence]")
    return tmp_path


def frame_of(frame):
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return Image.fromarray(np.stack([0 * rows + 40 * frame, 2 * rows, 4 * columns], axis=2).astype(np.uint8))


def write_tracks(*lines, name="det.txt"):
    with open(name, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def run(*options, camera="gate", code=0):
    words = ["crops", "--tracks", "det.txt", "--frames", "img1", "--camera", camera, "--output", "crops"]
    given = [*words, "--min-height", "10", *options]
    if code == 0:
        nplp(given)
    else:
        with pytest.raises(SystemExit) as caught:
            nplp(given)
        assert caught.value.code == code


def rows():
    with open("crops/images.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def files():
    return sorted(os.path.join(root, name) for root, _, names in os.walk("crops") for name in names)


def test_boxes_become_crops_and_a_table_that_is_read_again(capsys):
    write_tracks("1,7,10,20,30,40,0.9,-1,-1,-1", "3,7,12,20,30,40,0.8", "3,12,0,0,20,50,0.7")
    run("--fps", "25")
    assert rows() == [
        {"path": "gate/0007_000001.jpg", "camera": "gate", "track": "7", "time": "0.0"},
        {"path": "gate/0007_000003.jpg", "camera": "gate", "track": "7", "time": "0.08"},
        {"path": "gate/0012_000003.jpg", "camera": "gate", "track": "12", "time": "0.08"},
    ]
    assert capsys.readouterr().out == (
        "gate: 3 crops of 2 tracks from 2 frames\n"
        f"{os.path.join('crops', 'images.csv')}: 3 images, cameras: 1\n"
    )
    with Image.open("crops/gate/0007_000003.jpg") as image:
        assert image.size == (30, 40)
        expected = np.asarray(frame_of(3).crop((12, 20, 42, 60)), dtype=int)
        assert np.abs(np.asarray(image, dtype=int) - expected).mean() < 3
    table = read_image_table("crops/images.csv")
    assert table.tracks == ["7", "7", "12"]
    np.testing.assert_allclose(table.times, [0, 0.08, 0.08])
    assert read_image_table("crops").cameras == ["gate"] * 3, "the folder alone tells the cameras too"


def test_another_camera_is_added_and_what_somebody_added_stays():
    write_tracks("1,7,10,20,30,40")
    run()
    with open("crops/images.csv", encoding="utf-8") as file:
        header, row = file.read().split()
    with open("crops/images.csv", "w", encoding="utf-8") as file:
        file.write(f"{header},identity\n{row},Ann\n")
    run("--fps", "10", camera="Halle 2 🎥")
    assert rows() == [
        {"path": "gate/0007_000001.jpg", "camera": "gate", "track": "7", "time": "", "identity": "Ann"},
        {
            "path": "Halle 2 🎥/0007_000001.jpg",
            "camera": "Halle 2 🎥",
            "track": "7",
            "time": "0.0",
            "identity": "",
        },
    ]
    assert read_image_table("crops/images.csv").identities == [None, "Ann"], "in the order of paths"


def test_what_is_left_out_is_counted_by_the_reason(capsys):
    write_tracks(
        "1,1,0,0,20,50,0.9",
        "2,1,0,0,20,50,0.9",
        "2,2,0,0,20,50,0.2",
        "2,3,0,0,20,9,0.9",
        "2,4,0,95,20,50,0.9",
        "2,5,0,0,0,50,0.9",
        "2,6,60,0,20,50,0.9",
        "3,1,0,0,20,50,0.9",
        "2,-1,0,0,20,50,0.9",
    )
    run("--every", "2", "--min-confidence", "0.5")
    assert [row["path"] for row in rows()] == [
        "gate/0001_000001.jpg",
        "gate/0001_000003.jpg",
        "gate/none_000009_000002.jpg",
    ]
    assert [row["track"] for row in rows()] == ["1", "1", ""]
    said = capsys.readouterr().out
    assert "gate: 3 crops of 1 tracks from 3 frames; 6 boxes left out: " in said
    for part in (
        "1 of less than --min-confidence",
        "2 lower than --min-height",
        "2 empty, or outside of the frame",
        "1 between the frames of --every",
    ):
        assert part in said


def test_each_track_keeps_its_first_good_box_and_those_n_frames_later():
    write_tracks(*(f"{frame},{track},0,0,20,50" for track in (1, 2) for frame in range(track, 5)))
    run("--every", "3")
    assert [row["path"] for row in rows()] == [
        "gate/0001_000001.jpg",
        "gate/0001_000004.jpg",
        "gate/0002_000002.jpg",
    ]


def test_each_frame_is_decoded_once_and_one_without_a_crop_never(monkeypatch):
    decoded = []
    read = cutting.read_rgb
    monkeypatch.setattr(cutting, "read_rgb", lambda path: decoded.append(path) or read(path))
    write_tracks("3,1,0,0,20,50", "1,1,0,0,20,50", "3,2,5,0,20,50", "2,9,0,0,20,2", "1,3,0,0,20,50")
    run()
    assert sorted(decoded) == [os.path.join("img1", f"00000{frame}.png") for frame in (1, 3)]
    assert len(rows()) == 4


@given(
    st.tuples(
        *(st.floats(-80, 130, width=32).map(lambda value: round(value, 2)) for _ in range(2)),
        *(st.floats(0, 150, width=32).map(lambda value: round(value, 2)) for _ in range(2)),
    )
)
@settings(max_examples=200, deadline=None)
def test_boxes_are_clipped_to_the_frame(values):
    left, top, width, height = values
    box = cutting.Box(1, 1, 1, left, top, width, height, None)
    area = cutting._clipped(box, WIDTH, HEIGHT)
    inside = [
        [first <= number < last for number in range(limit)]
        for first, last, limit in (
            (math.floor(left + 0.5), math.floor(left + width + 0.5), WIDTH),
            (math.floor(top + 0.5), math.floor(top + height + 0.5), HEIGHT),
        )
    ]
    columns, lines = (np.flatnonzero(flags) for flags in inside)
    if len(columns) and len(lines):
        assert area == (columns[0], lines[0], columns[-1] + 1, lines[-1] + 1)
    else:
        assert area[0] >= area[2] or area[1] >= area[3]


@pytest.mark.parametrize(
    "line",
    [
        "1 7 10 20 30 40 0.9 0",
        "1, 7, 10, 20, 30, 40",
        "1.0,7.0,10,20,30,40,",
        "\ufeff1,7,10,20,30,40\r",
        "1\t7\t10\t20\t30\t40",
    ],
)
def test_ways_of_writing_a_line(line):
    write_tracks(line, "", "2,7,10,20,30,40")
    run()
    assert [row["track"] for row in rows()] == ["7", "7"]


@pytest.mark.parametrize(
    "line",
    [
        "frame,id,x,y,w,h",
        "1,7,10,20,30",
        "1,7,a,20,30,40",
        "1.5,7,1,2,30,40",
        "-1,7,1,2,30,40",
        "1,7,nan,2,30,40",
        "1,7,1,2,30,40,sure",
        "\x1b[2J",
    ],
)
def test_a_line_that_is_no_box_is_named(line, capsys):
    write_tracks("1,7,10,20,30,40", line)
    run(code=2)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "line 2 of 'det.txt' is " in said
    assert "frame,id,x,y,w,h" in said
    assert "\x1b" not in said
    assert not os.path.exists("crops")


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"det.txt": ""}, (), "'det.txt' holds no box"),
        (
            {"det.txt": "1,7,0,0,30,40\n1,7,5,5,30,40"},
            (),
            "lines 1 and 2 of 'det.txt' are both of track 7 in frame 1",
        ),
        (
            {"det.txt": "1,7,0,0,30,40\n9,7,5,5,30,40"},
            (),
            "1 of the 2 frames that 'det.txt' needs are not in 'img1', which has 1 to 4; the first is 9",
        ),
        (
            {"img1/000003.png": "no image"},
            (),
            "000003.png' cannot be read (not an image): put the frame back, or remove the lines of frame 3",
        ),
        ({"img1/3.jpg": ""}, (), "are both frame 3: leave one out"),
        ({}, ("--min-confidence", "0.5"), "line 1 of 'det.txt' has no confidence"),
        ({}, ("--min-height", "90"), "no box of 'det.txt' becomes a crop: 2 lower than --min-height"),
        ({}, ("--fps", "0"), "--fps must be above 0, got 0.0"),
        ({}, ("--fps", "nan"), "--fps must be above 0, got nan"),
        ({}, ("--every", "0"), "--every must be at least 1, got 0"),
        ({}, ("--min-height", "0"), "--min-height must be at least 1, got 0"),
        ({}, ("--camera", "../gate"), "--camera must be a name that a folder can have"),
        ({}, ("--camera", ".gate"), "--camera must be a name that a folder can have"),
        ({}, ("--camera", ""), "--camera must be a name that a folder can have"),
        ({}, ("--frames", "img2"), "'img2' is no folder"),
        ({}, ("--frames", "."), "'.' holds no frame"),
        ({}, ("--tracks", "none.txt"), "'none.txt' cannot be read (No such file or directory)"),
        ({}, ("--tracks", "img1/000001.png"), "it is not text in UTF-8"),
        ({"crops": "a file"}, (), "crops cannot be written into 'crops'"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing_behind(change, options, message, capsys):
    if options[:2] == ("--frames", "."):
        os.rename("img1", "-")
        os.makedirs("img1/empty")
        options = ("--frames", "img1/empty")
        message = "'img1/empty' holds no frame"
    write_tracks("1,7,10,20,30,40", "3,7,10,20,30,40")
    for path, text in change.items():
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    run(*options, code=2)
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not os.path.isdir("crops")


def test_a_camera_that_is_there_is_refused_and_stays(capsys):
    write_tracks("1,7,10,20,30,40")
    run()
    before = files(), rows()
    run(code=2)
    assert "the camera 'gate' is in 'crops/images.csv' already" in capsys.readouterr().err
    os.makedirs("crops/hall")
    run(camera="hall", code=2)
    assert "'crops/hall' is there already and not in images.csv" in capsys.readouterr().err
    assert (files(), rows()) == before


@pytest.mark.parametrize("text", ["name,camera\na,b\n", "", "path\n\0"])
def test_a_table_of_something_else_is_refused(text, capsys):
    write_tracks("1,7,10,20,30,40")
    os.mkdir("crops")
    with open("crops/images.csv", "w", encoding="utf-8") as file:
        file.write(text)
    run(code=2)
    assert "name another --output" in capsys.readouterr().err
    assert files() == [os.path.join("crops", "images.csv")]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_what_ends_it_halfway_leaves_nothing_and_it_can_be_run_again(monkeypatch, capsys, error):
    write_tracks("1,7,10,20,30,40")
    run(camera="hall")
    before = files(), rows()
    write_tracks("1,7,10,20,30,40", "3,7,10,20,30,40")

    def fail(*_):
        raise error

    for place in ("_clipped", "write_bytes_atomically"):
        with monkeypatch.context() as patch:
            patch.setattr(cutting, place, fail)
            run(code=130 if error is KeyboardInterrupt else 2)
        said = capsys.readouterr().err
        assert "stopped" in said or "No space left on device" in said
        assert (files(), rows()) == before
    os.makedirs("crops/.gate.part")
    run()
    assert len(rows()) == 3
    assert not os.path.exists("crops/.gate.part")


def test_the_help_names_every_option_and_its_default():
    text = command_module.build_parser().format_help()
    for word in (
        "--fps",
        "--every",
        "--min-height",
        "(default: 64)",
        "(default: 1)",
        "examples:",
        "frame,id,x,y,w,h",
    ):
        assert word in text
