"""Folders of own images: cameras by sub-folder, by a pattern, by benchmark layouts, and what is left out."""

import os

import numpy as np
import pytest
from PIL import Image

from nplp.data.own_images import read_image_table
from nplp.errors import UserError


@pytest.fixture
def own(tmp_path):
    """A function that makes empty files in a folder."""

    def make(*names, root="crops"):
        for name in names:
            path = tmp_path / root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        (tmp_path / root).mkdir(exist_ok=True)
        return tmp_path / root

    return make


def relative(table, folder):
    return [os.path.relpath(path, folder).replace(os.sep, "/") for path in table.paths]


def left_out(table, folder):
    return {
        reason: [os.path.relpath(path, folder).replace(os.sep, "/") for path in paths]
        for reason, paths in table.left_out.items()
    }


def test_first_level_folders_are_cameras_and_equal_names_are_two_images(own):
    folder = own("door 2/a.jpg", "door 1/a.jpg", "door 1/2024/01/b.PNG", "門 🎥/é b.webp")
    table = read_image_table(folder)
    assert relative(table, folder) == [
        "door 1/2024/01/b.PNG",
        "door 1/a.jpg",
        "door 2/a.jpg",
        "門 🎥/é b.webp",
    ]
    assert table.cameras == ["door 1", "door 1", "door 2", "門 🎥"]
    assert (table.identities, table.splits, table.tracks, table.times) == (None, None, None, None)
    assert table.left_out == {}
    assert table.source == f"{str(folder)!r}, cameras by sub-folder"
    assert list(table.paths) == sorted(table.paths)


def test_without_sub_folders_cameras_are_unknown(own):
    folder = own("b.jpg", "a.jpg", "0002_c1s1_000451_03.jpg")
    table = read_image_table(folder)
    assert relative(table, folder) == ["0002_c1s1_000451_03.jpg", "a.jpg", "b.jpg"]
    assert table.cameras is None
    assert table.identities is None, "a name alone tells no person, without a pattern"


def test_what_is_no_image_is_left_out_by_the_reason(own):
    folder = own(
        "a/1.jpg",
        "a/2.jpg",
        "b/1.jpg",
        "a/.hidden.jpg",
        ".trash/3.jpg",
        "a/Thumbs.db",
        "readme.txt",
        "sheet.png",
    )
    table = read_image_table(folder)
    assert relative(table, folder) == ["a/1.jpg", "a/2.jpg", "b/1.jpg"]
    assert left_out(table, folder) == {
        "hidden": [".trash/3.jpg", "a/.hidden.jpg"],
        "of no image format": ["a/Thumbs.db", "readme.txt"],
        "beside the folders of the cameras": ["sheet.png"],
    }


def test_a_majority_beside_the_folders_is_a_mistake(own):
    folder = own("1.jpg", "2.jpg", "3.jpg", "rejected/4.jpg", "rejected/5.jpg")
    with pytest.raises(
        UserError, match=r"3 of 5 images in '.*crops' lie beside the folders .* first '1.jpg'"
    ):
        read_image_table(folder)
    own("other/6.jpg")
    assert set(read_image_table(folder).cameras) == {"rejected", "other"}


def test_a_pattern_finds_cameras_and_more_in_the_path(own):
    folder = own("x/Ann_c12_t5_1.5.jpg", "x/-1_c3_t-1_2.jpg", "x/Bob_c3_t5_.jpg", "holiday.jpg", "c/.jpg.txt")
    pattern = r"/(?P<identity>[^_]+)_(?P<camera>c\d+)_t(?P<track>-?\d+)_(?P<time>[\d.]*)\.jpg$"
    table = read_image_table(folder, camera_pattern=pattern)
    assert relative(table, folder) == ["x/-1_c3_t-1_2.jpg", "x/Ann_c12_t5_1.5.jpg", "x/Bob_c3_t5_.jpg"]
    assert table.cameras == ["c3", "c12", "c3"]
    assert table.identities == [None, "Ann", "Bob"]
    assert table.tracks == [None, "5", "5"]
    np.testing.assert_array_equal(table.times, [2.0, 1.5, np.nan])
    assert left_out(table, folder)["whose paths the camera pattern does not match"] == ["holiday.jpg"]
    assert table.source.endswith(f"cameras by the pattern {pattern!r}")


def test_a_pattern_may_read_folders_below_the_first_level(own):
    folder = own("2024/gate/1.jpg", "2024/hall/1.jpg", "2025/gate/1.jpg")
    assert read_image_table(folder, camera_pattern=r"^\d+/(?P<camera>[^/]+)/").cameras == [
        "gate",
        "hall",
        "gate",
    ]
    with pytest.raises(UserError, match=r"matches no image in '.*crops': .*paths such as '2024/gate/1.jpg'"):
        read_image_table(folder, camera_pattern=r"^(?P<camera>c\d)/")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(?P<camera>c", "is no regular expression"),
        ("c(\\d+)", "has no group named camera"),
        ("(?P<cam>c\\d)", "has no group named camera"),
        ("(?P<camera>c)(?P<idenity>x)", "has a group named idenity: there are camera, identity, track, time"),
        ("(?P<camera>c)(?P<path>x)", "has a group named path"),
        (
            "(?P<camera>a)/(?P<time>.*)\\.",
            "finds the time 'noon' in 'a/noon.jpg': it must be a number of seconds",
        ),
    ],
)
def test_wrong_patterns_are_one_line(own, pattern, message):
    with pytest.raises(UserError) as caught:
        read_image_table(own("a/noon.jpg"), camera_pattern=pattern)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_camera_is_none(own):
    folder = own("c1.jpg", "x.jpg")
    table = read_image_table(folder, camera_pattern=r"(?P<camera>(c\d)?)(?=\.jpg)")
    assert table.cameras == ["c1"]


@pytest.mark.parametrize(
    "names", [("bounding_box_train", "query", "bounding_box_test"), ("train", "query", "gallery")]
)
def test_layouts_of_benchmarks_are_splits(own, names):
    train, query, gallery = names
    folder = own(
        f"{train}/0002_c1s1_01.jpg",
        f"{train}/-1_c12 x.jpg",
        f"{train}/holiday.jpg",
        f"{query}/0012_c2.png",
        f"{gallery}/0012_c1.png",
        f"{gallery}/0000_c1.png",
        f"{gallery}/-1_c1.png",
        "notes.txt",
        "sheet.jpg",
    )
    table = read_image_table(folder)
    found = dict(
        zip(
            relative(table, folder),
            zip(table.splits, table.identities, table.cameras, strict=True),
            strict=True,
        )
    )
    assert found == {
        f"{train}/0002_c1s1_01.jpg": ("train", "0002", "c1"),
        f"{train}/-1_c12 x.jpg": ("train", None, "c12"),
        f"{query}/0012_c2.png": ("query", "0012", "c2"),
        f"{gallery}/0012_c1.png": ("gallery", "0012", "c1"),
        f"{gallery}/0000_c1.png": ("gallery", "0000", "c1"),
    }
    assert left_out(table, folder) == {
        "of no image format": ["notes.txt"],
        "in no folder of a split": ["sheet.jpg"],
        "whose name does not follow the data set's naming, such as 0002_c1": [f"{train}/holiday.jpg"],
        "junk, person -1": [f"{gallery}/-1_c1.png"],
    }


def test_market_1501_as_published_is_no_network_of_five_cameras(own):
    folder = own(
        "bounding_box_train/0002_c1.jpg", "gt_bbox/0002_c1.jpg", "query/0003_c1.jpg", "gt_query/0003.mat"
    )
    table = read_image_table(folder)
    assert table.splits == ["train", "query"]
    assert left_out(table, folder)["in no folder of a split"] == ["gt_bbox/0002_c1.jpg"]


def test_splits_with_folders_of_cameras_and_with_a_pattern(own):
    folder = own(
        "train/gate/1.jpg", "train/hall/2.jpg", "query/gate/3.jpg", "gallery/hall/4.jpg", "train/5.jpg"
    )
    table = read_image_table(folder)
    assert table.splits == ["gallery", "query", "train", "train"]
    assert table.cameras == ["hall", "gate", "gate", "hall"]
    assert left_out(table, folder) == {"beside the folders of the cameras": ["train/5.jpg"]}
    named = read_image_table(folder, camera_pattern=r"(?P<camera>\d)\.jpg")
    assert (named.cameras, named.splits[-1]) == (["4", "3", "5", "1", "2"], "train")
    unknown = own("train/1.jpg", "query/2.jpg", root="flat")
    assert (read_image_table(unknown).cameras, read_image_table(unknown).splits) == (None, ["query", "train"])


@pytest.mark.parametrize("names", [("train", "test"), ("val",), ("train", "query", "test")])
def test_folders_named_nearly_as_splits_are_no_cameras(own, names):
    folder = own(*(f"{name}/1.jpg" for name in names))
    with pytest.raises(UserError, match="are named as splits, not as cameras .*: name them train, query and"):
        read_image_table(folder)
    table = read_image_table(folder, camera_pattern=r"^(?P<camera>\w+)/")
    assert (sorted(table.cameras), table.splits) == (sorted(names), None)


def test_split_names_beside_others_are_cameras(own):
    folder = own("gallery/1.jpg", "cafe/1.jpg", "test/1.jpg")
    table = read_image_table(folder)
    assert (table.cameras, table.splits) == (["cafe", "gallery", "test"], None)


def test_no_image_is_opened(own):
    folder = own("a/empty.jpg")
    (folder / "a" / "broken.png").write_bytes(b"nothing")
    Image.new("RGB", (2, 2)).save(folder / "a" / "whole.png")
    assert len(read_image_table(folder)) == 3


@pytest.mark.parametrize("name", ["a [1] b", "every*thing", "監視 🎥"])
def test_folders_are_taken_literally(own, name):
    folder = own("x/1.jpg", root=name)
    assert read_image_table(str(folder)).paths == [str(folder / "x" / "1.jpg")]


def test_nothing_usable_says_what_there_was(own, tmp_path):
    with pytest.raises(UserError, match=r"'.*crops' holds no image that can be used: give a folder"):
        read_image_table(own())
    with pytest.raises(
        UserError, match=r"2 files left out: 1 of no image format \(first 'a.txt'\), 1 hidden"
    ):
        read_image_table(own("a.txt", "b/.c.jpg"))
    with pytest.raises(UserError, match="nowhere' does not exist"):
        read_image_table(tmp_path / "nowhere")


def test_options_of_the_other_kind_are_refused(own, tmp_path):
    folder = own("a/1.jpg")
    with pytest.raises(UserError, match="is a folder, which has no columns"):
        read_image_table(folder, columns={"camera": "cam"})
    table = tmp_path / "a.csv"
    table.write_text("path\ncrops/a/1.jpg\n")
    with pytest.raises(UserError, match="is a table, whose cameras are in a column"):
        read_image_table(table, camera_pattern="(?P<camera>a)")
    with pytest.raises(
        UserError, match=r"is neither a folder of images nor a table \(.csv, .tsv, .parquet\)"
    ):
        read_image_table(folder / "a" / "1.jpg")


def test_a_folder_that_cannot_be_listed_is_one_line(own, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    folder = own("a/1.jpg")
    monkeypatch.setattr("nplp.data.benchmarks.os.scandir", refuse)
    with pytest.raises(UserError, match=r"crops' cannot be listed \(Permission denied\)"):
        read_image_table(folder)
