"""``nplp index`` and ``nplp search``: from a folder to hits, and to a page of them."""

import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from nplp.search import Index
from untrained import make_run, person_of


@pytest.fixture
def gallery(nplp, run_folder, crops):
    """An index of the crops in the current folder."""
    code, shown = nplp("index", "--model", run_folder, "--images", "crops", "--output", "gallery")
    assert (code, shown.out.split(" by")[0]) == (0, "gallery: 60 images, 60 of them new,")
    return crops


def hits_of(out):
    """Return the cells of the table's rows."""
    return [re.split(r"\s{2,}", line, maxsplit=3) for line in out.splitlines() if re.match(r"\d", line)]


def test_the_own_file_is_no_hit_and_the_same_person_is(nplp, gallery):
    query = sorted(gallery.rglob("*.png"))[0]
    code, shown = nplp("search", query, "--index", "gallery", "--top", "4")
    assert code == 0, shown.err
    rows = hits_of(shown.out)
    assert [row[0] for row in rows] == ["1", "2", "3", "4"]
    assert all(not os.path.samefile(row[3], query) for row in rows)
    assert [person_of(row[3]) for row in rows] == [person_of(query)] * 4


def test_a_search_in_other_cameras_writes_a_page(nplp, gallery, monkeypatch):
    queries = sorted((gallery / "gate").iterdir())[:2]
    code, shown = nplp(
        *("search", *queries, "--index", "gallery", "--camera", "gate", "--other-cameras"),
        *("--html", "hits.html"),
    )
    assert code == 0, shown.err
    assert {row[2] for row in hits_of(shown.out)} == {"hall é"}
    text = Path("hits.html").read_text(encoding="utf-8")
    tags = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append((tag, dict(attributes)))
    parser.feed(text)
    pictures = [attributes for tag, attributes in tags if tag == "img"]
    assert len(pictures) == 2 * 11
    assert all(each["src"].startswith("data:image/jpeg;base64,") and each["alt"] for each in pictures)
    links = [attributes["href"] for tag, attributes in tags if tag == "a"]
    assert links[0] == "#images"
    assert all(link.startswith("file:///") for link in links[1:])
    assert not re.search(r"<script|https?://|@import|url\(", text)


def test_an_index_takes_more_images_once(nplp, gallery):
    (gallery / "new").mkdir()
    first = sorted((gallery / "gate").iterdir())[0]
    (gallery / "new" / first.name).write_bytes(first.read_bytes())
    code, shown = nplp("index", "--images", "crops", "--output", "gallery", "--add")
    assert (code, shown.out.split(" by")[0]) == (0, "gallery: 61 images, 1 of them new,"), shown.err
    assert set(Index.load("gallery").cameras) == {"gate", "hall é", "new"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["q.png", "--index", "absent"], "'absent' is no folder of an index: nplp index writes one"),
        (["absent.png", "--index", "gallery"], "the query 'absent.png' is no file"),
        (["q.png", "--index", "gallery", "--top", "0"], "--top must be at least 1, got 0"),
        (["q.png", "--index", "gallery", "--other-cameras"], "--other-cameras needs the camera"),
        (["q.png", "--index", "gallery", "--html", "hits.txt"], "--html must end in .html"),
        (["q.png", "--index", "gallery", "--model", "other"], "and model_final.pth of the run other gives"),
        (["broken.png", "--index", "gallery"], "1 of 1 images cannot be read"),
        (["--index", "gallery"], "the following arguments are required: QUERY"),
    ],
)
def test_a_mistake_of_a_search_is_one_line(nplp, gallery, tmp_path, words, said):
    (tmp_path / "q.png").write_bytes(sorted(gallery.rglob("*.png"))[0].read_bytes())
    (tmp_path / "broken.png").write_text("no image")
    make_run(tmp_path / "other", seed=7)
    code, shown = nplp("search", *words)
    assert code == 2
    assert shown.err.startswith("nplp search: ")
    assert said in shown.err
    assert (shown.err.count("\n"), shown.out) == (1, "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--output", "gallery"], "holds an index: add --overwrite"),
        (["--output", "crops"], "holds other files"),
        (["--output", "absent", "--add"], "'absent' is no folder of an index"),
        (["--output", "gallery", "--add", "--overwrite"], "not allowed with argument"),
    ],
)
def test_a_mistake_of_an_index_is_one_line(nplp, gallery, run_folder, words, said):
    before = sorted(os.listdir("gallery"))
    code, shown = nplp("index", "--model", run_folder, "--images", "crops", *words)
    assert code == 2
    assert shown.err.startswith("nplp index: ")
    assert said in shown.err
    assert shown.err.count("\n") == 1
    assert sorted(os.listdir("gallery")) == before


def test_an_index_needs_a_model(nplp, crops):
    code, shown = nplp("index", "--images", "crops", "--output", "gallery")
    assert (code, shown.err) == (2, "nplp index: --model is missing: name what embeds the images\n")
