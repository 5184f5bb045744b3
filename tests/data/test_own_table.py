"""Tables of own images: what is read of CSV, TSV and Parquet, and mistakes with the place where they are."""

import datetime
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nplp.config.own_images import IMAGE_COLUMNS, parse_columns, schema_table
from nplp.data import own_table
from nplp.data.own_images import read_image_table
from nplp.errors import UserError

PAGE = Path(__file__).parents[2] / "docs" / "own_images.md"


@pytest.fixture
def table(tmp_path):
    """A function that writes a table beside the images a.jpg to d.jpg, of which it names the first ones."""
    for name in "abcd":
        (tmp_path / f"{name}.jpg").touch()

    def write(content, name="table.csv", encoding="utf-8"):
        path = tmp_path / name
        if isinstance(content, pl.DataFrame):
            content.write_parquet(path)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return path

    return write


def names(read):
    return [os.path.basename(path) for path in read.paths]


def test_all_columns_are_read_and_rows_sorted_by_path(table, tmp_path):
    read = read_image_table(
        table(
            "split,path,camera,identity,track,time,comment\n"
            "gallery,b.jpg,hall,0012,7,1.5,x\n"
            ",a.jpg,gate,,,,\n"
            "Query,d.jpg,hall,-1,-1,2026-01-31T12:00:00,\n"
            "train,c.jpg,gate,Ann,7,2026-01-31 13:00:00+01:00,\n"
        )
    )
    assert read.paths == [str(tmp_path / f"{name}.jpg") for name in "abcd"]
    assert read.cameras == ["gate", "hall", "gate", "hall"]
    assert read.identities == [None, "0012", "Ann", None]
    assert read.splits == ["train", "gallery", "train", "query"]
    assert read.tracks == [None, "7", "7", None]
    noon = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.timezone.utc).timestamp()
    np.testing.assert_array_equal(read.times, [np.nan, 1.5, noon, noon])
    assert read.times.dtype == np.float64
    assert read.left_out == {}
    assert read.source == f"the table {str(tmp_path / 'table.csv')!r} (columns not read: 'comment')"


def test_a_path_alone_is_enough(table):
    read = read_image_table(table("path\na.jpg\nb.jpg"))
    assert names(read) == ["a.jpg", "b.jpg"]
    assert (read.cameras, read.identities, read.splits, read.tracks, read.times) == (None,) * 5


def test_columns_that_are_empty_throughout_are_none(table):
    read = read_image_table(table("path,camera,identity,split,track,time\na.jpg,,,,,\nb.jpg,, ,,,\n"))
    assert (read.cameras, read.identities, read.splits, read.tracks, read.times) == (None,) * 5


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_what_spreadsheets_write_is_read(table, tmp_path, separator, newline, encoding):
    (tmp_path / "é 人 🎥.jpg").touch()
    lines = [("Path ", "CAMERA"), ("a.jpg", '"a,b;c"'), ("", ""), ("é 人 🎥.jpg", " 0012 "), ("", "")]
    text = newline.join(separator.join(cells) for cells in lines)
    read = read_image_table(table(text, encoding=encoding))
    assert names(read) == ["a.jpg", "é 人 🎥.jpg"]
    assert read.cameras == ["a,b;c", "0012"]


def test_paths_may_be_absolute_and_of_both_separators(table, tmp_path):
    for name in ("x/1.jpg", "x/y/2.jpg", "z.jpg"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    read = read_image_table(
        table(f"path\nin\\x\\1.jpg\n./in/x/../x/y/2.jpg\n{tmp_path / 'in' / 'z.jpg'}\na.jpg")
    )
    assert read.paths == [
        str(tmp_path / name) for name in ("a.jpg", "in/x/1.jpg", "in/x/y/2.jpg", "in/z.jpg")
    ]


@pytest.mark.skipif(os.sep == "\\", reason="a separator there")
def test_a_backslash_in_a_files_name_is_no_separator_there(table, tmp_path):
    (tmp_path / "a\\b.jpg").touch()
    assert read_image_table(table("path\na\\b.jpg")).paths == [str(tmp_path / "a\\b.jpg")]


@pytest.mark.parametrize(
    ("cells", "read"),
    [
        (("3", "3.0", ""), ["3", "3", None]),
        (("3.0", "-1.0", "0012.0"), ["3", None, "0012"]),
        (("0012", "12", "-1"), ["0012", "12", None]),
        (("3.0", "x", "unknown"), ["3.0", "x", None]),
        (("1.5", "2.0", ""), ["1.5", "2.0", None]),
        (("12345678901234567890123", "1", ""), ["12345678901234567890123", "1", None]),
    ],
)
def test_ids_in_text_files(table, cells, read):
    rows = [f"{name}.jpg,{cell}" for name, cell in zip("abc", cells, strict=True)]
    assert read_image_table(table("\n".join(["path,identity", *rows]))).identities == read


@pytest.mark.parametrize(
    ("column", "read"),
    [
        (pl.Series([3.0, None, -1.0]), ["3", None, None]),
        (pl.Series([3.0, float("nan"), 1e20]), ["3", None, "100000000000000000000"]),
        (pl.Series([1.5, 2.0, 3.0]), ["1.5", "2", "3"]),
        (pl.Series([3, -1, 2**63], dtype=pl.Int128), ["3", None, str(2**63)]),
        (pl.Series(["0012", " ", "x "]), ["0012", None, "x"]),
        (pl.Series(["a", "b", None], dtype=pl.Categorical), ["a", "b", None]),
        (pl.Series([True, False, None]), ["true", "false", None]),
    ],
)
def test_ids_in_parquet_files(table, column, read):
    frame = pl.DataFrame({"path": ["a.jpg", "b.jpg", "c.jpg"], "identity": column})
    assert read_image_table(table(frame, "table.parquet")).identities == read


MOMENTS = pl.Series([datetime.datetime(1970, 1, 1), datetime.datetime(1970, 1, 1, 0, 1, 30)])


@pytest.mark.parametrize(
    "column",
    [
        pl.Series([0, 90]),
        pl.Series(["0", "9e1"]),
        pl.Series(["1970-01-01", "1970-01-01T00:01:30Z"]),
        MOMENTS,
        MOMENTS.dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Tokyo"),
        pl.Series([datetime.timedelta(0), datetime.timedelta(seconds=90)]),
        pl.Series([datetime.time(0), datetime.time(0, 1, 30)]),
    ],
)
def test_times_in_parquet_files_are_seconds(table, column):
    frame = pl.DataFrame({"path": ["a.jpg", "b.jpg"], "time": column})
    np.testing.assert_array_equal(read_image_table(table(frame, "t.parquet")).times, [0.0, 90.0])


def test_dates_are_seconds_since_1970(table):
    frame = pl.DataFrame({"path": ["a.jpg", "b.jpg"], "time": [datetime.date(1970, 1, 2), None]})
    np.testing.assert_array_equal(read_image_table(table(frame, "t.parquet")).times, [86400.0, np.nan])


def test_columns_can_be_mapped(table):
    path = table("file,path,cam_id,Camera\na.jpg,1,7,x\nb.jpg,2,8,y\n")
    read = read_image_table(path, columns=parse_columns(["path=file", "camera = cam_id", "track=path"]))
    assert (names(read), read.cameras, read.tracks) == (["a.jpg", "b.jpg"], ["7", "8"], ["1", "2"])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"camera": "cam"}, "has no column 'cam' for camera: its columns are 'path', 'camera'"),
        ({"cam": "camera"}, "give a column 'cam': ours are path, camera, identity, split, track, time"),
    ],
)
def test_unknown_columns_are_said(table, columns, message):
    with pytest.raises(UserError, match=message):
        read_image_table(table("path,camera\na.jpg,1"), columns=columns)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["camera"], "must be OURS=THEIRS, such as camera=cam_id, got 'camera'"),
        (["=x"], "must be OURS=THEIRS"),
        (["camera="], "must be OURS=THEIRS"),
        (["camera=a", "camera=b"], "name camera twice, 'a' and 'b'"),
        (["cam=a"], "give a column 'cam'"),
    ],
)
def test_wrong_pairs_are_said(pairs, message):
    with pytest.raises(UserError, match=message):
        parse_columns(pairs)


MISTAKES = {
    "no path": ("image,camera\na.jpg,1", "has no column path: its columns are 'image', 'camera'; say which"),
    "empty path": ("path,camera\na.jpg,1\n,2", "line 3: path is empty: name an image file"),
    "some cameras": ("path,camera\na.jpg,1\nb.jpg,", "line 3: camera is empty: give each image its camera"),
    "split": ("path,split\na.jpg,\n\nb.jpg,test", "line 4: split is 'test': it must be train, query"),
    "time": ("path,time\na.jpg,noon", "line 2: time is 'noon': it must be a number of seconds, or a date"),
    "infinite": ("path,time\na.jpg,1e999", "line 2: time is '1e999'"),
    "no date": ("path,time\na.jpg,2026-02-30", "line 2: time is '2026-02-30'"),
    "duplicate": ("path\na.jpg\nb.jpg\n./a.jpg", "a.jpg' is there already, in line 2: leave one of them out"),
    "lines in cells": ('path,identity,split\na.jpg,"x\ny\nz",\nb.jpg,,test', "line 5: split is 'test'"),
    "no rows": ("path,camera\n", "has no row"),
    "empty": ("", "has no row"),
    "blank": ("\n\n", "has no row"),
    "too many": ("path,camera\na.jpg,1,2,3", "cannot be read (found more fields"),
    "two columns": ("path,camera,camera\na.jpg,1,2", "it has two columns 'camera'"),
    "capitals": ("path,camera,Camera\na.jpg,1,2", "has the columns 'camera' and 'Camera': leave one out"),
    "latin": ("path\né.jpg".encode("latin-1"), "it is not text in UTF-8"),
    "bytes": (b"path\n\0\0", "it is not text"),
    "missing": ("path\na.jpg\nq.jpg\nr.jpg", "2 of the 3 images that "),
    "all missing": ("path\nq.jpg", "1 of the 1 images that "),
    "folder": ("path\n.", "1 of the 1 images that "),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_one_line_that_tells_the_place(table, case):
    content, message = MISTAKES[case]
    with pytest.raises(UserError) as caught:
        read_image_table(table(content))
    assert message in str(caught.value)
    assert "table.csv'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_are_said_with_the_first_and_can_be_left_out(table, tmp_path):
    path = table("path,camera\nq.jpg,1\na.jpg,2\nsub/r.jpg,3\n")
    with pytest.raises(
        UserError, match="2 of the 3 images .* first '.*q.jpg' in line 2: paths are relative to"
    ):
        read_image_table(path)
    read = read_image_table(path, skip_missing=True)
    assert (names(read), read.cameras) == (["a.jpg"], ["2"])
    assert read.left_out == {own_table.MISSING: [str(tmp_path / "q.jpg"), str(tmp_path / "sub" / "r.jpg")]}
    with pytest.raises(UserError, match="1 of the 1 images"):
        read_image_table(table("path\nq.jpg"), skip_missing=True)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pl.DataFrame({"path": ["a.jpg", "b.jpg"], "split": ["train", "val"]}), "row 2: split is 'val'"),
        (pl.DataFrame({"path": ["a.jpg"], "camera": [[1, 2]]}), "the column 'camera' holds List"),
        (pl.DataFrame({"path": [b"a.jpg"]}), "the column 'path' holds Binary"),
        (pl.DataFrame({"path": []}, schema={"path": pl.String}), "has no row"),
        (pl.DataFrame({"path": ["a.jpg"], "time": [float("inf")]}), "row 1: time is 'inf'"),
    ],
)
def test_mistakes_in_parquet_files(table, frame, message):
    with pytest.raises(UserError) as caught:
        read_image_table(table(frame, "table.parquet"))
    assert message in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" * 9, b"path,camera\n"])
def test_a_damaged_parquet_file_is_one_line(table, content):
    with pytest.raises(UserError, match=r"table.parquet' cannot be read \(.*\): save it again"):
        read_image_table(table(content, "table.parquet"))
    whole = table(pl.DataFrame({"path": ["a.jpg"] * 99}), "whole.parquet").read_bytes()
    with pytest.raises(UserError, match=r"cut.parquet' cannot be read"):
        read_image_table(table(whole[: len(whole) // 2], "cut.parquet"))


TEXT = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp"), exclude_characters="\ufeff"),
    min_size=1,
    max_size=6,
)
ID = TEXT.filter(lambda text: text not in ("-1", "unknown") and not own_cells_whole(text))
ROW = st.tuples(
    TEXT,
    st.none() | ID,
    st.sampled_from(["train", "query", "gallery"]),
    st.none() | ID,
    st.none() | st.floats(-1e12, 1e12),
)


def own_cells_whole(text):
    """Tell whether an id is a number, whose point is taken away where all are."""
    return any(character.isdigit() for character in text) and "." in text


@given(rows=st.lists(ROW, min_size=1, max_size=8), parquet=st.booleans(), separator=st.sampled_from(",;\t"))
@settings(max_examples=40, deadline=None)
def test_what_is_written_is_read_again(tmp_path_factory, rows, parquet, separator):
    folder = tmp_path_factory.mktemp("round", numbered=True)
    expected = []
    for number, (camera, identity, split, track, time) in enumerate(rows):
        path = folder / f"{(number * 7) % 11}.jpg"
        path.touch()
        expected.append((str(path), f"c{camera}", identity, split, track, np.nan if time is None else time))
    columns = ("path", "camera", "identity", "split", "track", "time")
    written = [
        (os.path.basename(row[0]), *row[1:5], None if np.isnan(row[5]) else row[5]) for row in expected
    ]
    frame = pl.DataFrame(written, schema=columns, orient="row", infer_schema_length=None)
    source = folder / ("t.parquet" if parquet else "t.csv")
    if parquet:
        frame.write_parquet(source)
    else:
        frame.write_csv(source, separator=separator)
    read = read_image_table(source)
    expected.sort()
    for column, values in zip(columns, zip(*expected, strict=True), strict=True):
        found = getattr(read, {"path": "paths", "identity": "identities"}.get(column, f"{column}s"))
        if column == "time":
            np.testing.assert_array_equal(np.full(len(rows), np.nan) if found is None else found, values)
        else:
            assert (found if found is not None else [None] * len(rows)) == list(values)


def test_the_page_has_the_schema():
    assert schema_table() in PAGE.read_text(encoding="utf-8")
    for column in IMAGE_COLUMNS:
        assert f"| `{column}` |" in schema_table()


def test_the_pages_example_is_read(table, tmp_path):
    text = PAGE.read_text(encoding="utf-8")
    example = text[text.index("path,camera,identity") :].partition("```")[0]
    for line in example.splitlines()[1:]:
        path = tmp_path / line.split(",")[0]
        path.parent.mkdir(exist_ok=True)
        path.touch()
    read = read_image_table(table(example))
    assert (read.cameras, read.splits) == (
        ["gate", "gate", "hall", "gate"],
        ["train", "train", "query", "gallery"],
    )
    assert read.identities == [None, None, "0012", "0012"]
    assert read.times[1] - read.times[0] == 1


@pytest.mark.parametrize("column", IMAGE_COLUMNS)
def test_each_column_of_the_schema_is_read_and_no_other(table, column):
    cell = {"path": "a.jpg", "split": "query", "time": "5"}.get(column, "x")
    field = {"path": "paths", "identity": "identities"}.get(column, f"{column}s")
    header, row = ("path,c", f"a.jpg,{cell}") if column != "path" else ("c,d", f"{cell},1")
    path = table(f"{header}\n{row}\n")
    assert getattr(read_image_table(path, columns={column: "c"}), field) is not None
    if column != "path":
        assert getattr(read_image_table(path), field) is None
