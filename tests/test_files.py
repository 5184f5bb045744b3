"""Files that are written whole and read with one-line errors."""

import json

import pytest

from nplp.errors import UserError
from nplp.files import read_json, read_json_lines, read_text, read_yaml, write_atomically


def test_text_is_replaced_whole(tmp_path):
    path = tmp_path / "text"
    write_atomically(path, "one")
    write_atomically(path, "two")
    assert path.read_text() == "two"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("read", "content", "fault"),
    [
        (read_text, None, r"cannot be read \(No such file or directory\)"),
        (read_text, b"\xff\xfe", r"cannot be read \(it is not text in UTF-8\)"),
        (read_json, None, "cannot be read"),
        (read_json, b'{"a": ', "is damaged"),
        (read_json, b"[1]", r"is damaged \(it holds a list\)"),
        (read_json, b"[" * 100_000, "is damaged"),
        (read_yaml, b"a: [", "is damaged"),
        (read_yaml, b"- a", r"is damaged \(it holds a list\)"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path, read, content, fault):
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"^'{path}' {fault}.*: write it again$") as caught:
        read(path, "write it again")
    assert "\n" not in str(caught.value)


def test_what_can_be_read_is_returned(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"\xef\xbb\xbfa\n")
    assert read_text(path, "", encoding="utf-8-sig") == "a\n"
    path.write_text('{"a": 1}')
    assert read_json(path, "") == read_yaml(path, "") == {"a": 1}
    path.write_text("")
    assert read_yaml(path, "") == {}


def test_lines_that_are_no_objects_are_left_out(tmp_path):
    path = tmp_path / "lines"
    assert read_json_lines(path) == []
    path.write_text(json.dumps({"a": 1}) + '\n[2]\n{"torn}\n' + json.dumps({"a": 3}) + '\n{"a": ')
    assert read_json_lines(path) == [{"a": 1}, {"a": 3}]
