"""Each finding appears where data are spoiled in its way, and not on data without fault."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from doctor_cases import SIZE, Data, codes, good_data, picture
from nplp.data.benchmarks import HIDDEN, JUNK, NO_IMAGE, NO_NAME
from nplp.data.doctor import CODES, Finding, examine
from nplp.data.image_table import ImageTable


@pytest.fixture(scope="module")
def master(tmp_path_factory):
    """The folder of the data without fault, drawn once."""
    folder = tmp_path_factory.mktemp("good")
    good_data(folder)
    return folder


@pytest.fixture
def data(master, tmp_path):
    """Data without fault in a folder of its own."""
    shutil.copytree(master, tmp_path / "data")
    fresh = good_data_rows(tmp_path / "data")
    assert all(Path(row["path"]).exists() for row in fresh.rows)
    return fresh


def good_data_rows(folder: Path) -> Data:
    """Return the rows of the data without fault, whose images are there already."""
    data = Data(folder)
    for path in sorted(folder.rglob("*.png")):
        split, camera, name = path.relative_to(folder).parts
        person = str(int(name[1:3]))
        data.add(f"{split}/{camera}/{name}", camera=camera, identity=f"p{person}", split=split, track=person)
    return data


def save_as(data: Data, image: Image.Image, suffix: str = ".png") -> None:
    """Replace the first training image."""
    row = data.of("train")[0]
    path = Path(row["path"]).with_suffix(suffix)
    Path(row["path"]).unlink()
    image.save(path)
    row["path"] = str(path)


def give(data: Data, column: str, value: Any, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        row[column] = value


def no_images(data):
    data.keep([])


def unreadable(data):
    for row, content in zip(data.of("train"), (b"", b"text", None), strict=False):
        path = Path(row["path"])
        path.unlink() if content is None else path.write_bytes(content)


def deep(data):
    save_as(data, Image.fromarray(np.full((60, 24), 2000, np.uint16)))


def missing_files(data):
    data.left_out["that the table names and that do not exist"] = [str(data.folder / "gone.jpg")]


def in_both(data):
    give(data, "identity", "p3", data.of("query")[:2])


def no_gallery(data):
    data.without("gallery")


def no_queries(data):
    data.without("query")


def no_match(data):
    for row in data.of("query"):
        row["identity"] = f"new {row['identity']}"


def own_camera_alone(data):
    """Query and gallery see each person in one camera, which counts in no metric."""
    cameras = {"p8": "gate", "p9": "hall", "p10": "yard", "p11": "gate"}
    rows = data.of("query") + data.of("gallery")
    data.keep(data.of("train") + [row for row in rows if cameras[row["identity"]] == row["camera"]])


def nameless_queries(data):
    give(data, "identity", None, data.of("query")[:2])


def nameless_gallery(data):
    give(data, "identity", None, data.of("gallery")[:2])


def fewer_than_published(data):
    data.name = "Market1501"


def ignored_images(data):
    data.left_out[NO_NAME] = [data.add("holiday.jpg", picture(900)).as_posix()]
    data.rows.pop()


def ignored_files(data):
    for reason, name in ((HIDDEN, ".x"), (NO_IMAGE, "Thumbs.db"), (JUNK, "-1_c1.jpg")):
        path = data.folder / name
        path.touch()
        data.left_out[reason] = [str(path)]


def one_query_alone(data):
    give(data, "identity", "stranger", data.of("query")[:1])


def no_cameras(data):
    data.columns = ("identity", "split")


def one_camera(data):
    data.without("query", "gallery")
    give(data, "camera", "gate", data.rows)


def few_images(data):
    data.keep(data.of("train")[:63] + data.of("query") + data.of("gallery"))


def few_in_camera(data):
    rows = [row for row in data.of("train") if row["camera"] == "yard"]
    give(data, "camera", "attic", rows[:15])


def dominant(data):
    hall = [row for row in data.of("train") if row["camera"] == "hall"]
    give(data, "camera", "gate", hall)
    give(data, "camera", "gate", [row for row in data.of("train") if row["camera"] == "yard"][:10])


def untrained_camera(data):
    give(data, "camera", "attic", data.of("gallery")[:2])


def isolated_camera(data):
    for row in data.of("train"):
        if row["camera"] == "yard":
            row["identity"] = f"other {row['identity']}"


def nobody_in_two_cameras(data):
    for row in data.of("train"):
        row["identity"] = f"{row['camera']} {row['identity']}"


def apart(data):
    """Gate and yard share nobody; the hall shares people with both."""
    for row in data.of("train"):
        if row["camera"] == "gate" and row["identity"] in ("p0", "p1", "p2", "p3"):
            row["identity"] = f"a {row['identity']}"
        if row["camera"] == "yard" and row["identity"] in ("p4", "p5", "p6", "p7"):
            row["identity"] = f"b {row['identity']}"


def one_identity(data):
    give(data, "identity", "person", data.of("train"))


def jumping_track(data):
    data.of("train")[0]["track"] = "7"


def unknown_identities(data):
    give(data, "identity", None, data.of("train")[:2])


def alone_in_a_camera(data):
    rows = data.of("train")
    data.keep(
        [row for row in rows if row["identity"] != "p0" or row["camera"] == "gate"]
        + data.of("query")
        + data.of("gallery")
    )


def one_image(data):
    data.of("train")[0]["identity"] = "seldom"


def same_in_test(data):
    data.copy(data.of("train")[0], "gallery/copy.png", split="gallery", identity="p9")


def same_of_two_people(data):
    data.copy(data.of("train")[0], "train/copy.png", identity="p5")


def same_in_two_cameras(data):
    data.copy(data.of("train")[0], "train/copy.png", camera="yard")


def same_again(data):
    data.copy(data.of("train")[0], "train/copy.png")


def near_in_test(data):
    data.nearly(data.of("train")[0], "gallery/copy.jpg", split="gallery", identity="p9")


def near_of_two_people(data):
    data.nearly(data.of("train")[0], "train/copy.jpg", identity="p5")


def near_in_two_cameras(data):
    data.nearly(data.of("train")[0], "train/copy.jpg", camera="yard")


def near_again(data):
    data.nearly(data.of("train")[0], "train/copy.jpg")


def blank(data):
    save_as(data, Image.new("RGB", SIZE, (90, 90, 90)))


def small(data):
    save_as(data, picture(900, (15, 40)))


def low(data):
    save_as(data, picture(900, (16, 31)))


def wide(data):
    save_as(data, picture(900, (70, 60)))


def tall(data):
    save_as(data, picture(900, (20, 101)))


def grey(data):
    save_as(data, picture(900).convert("L"))


def transparent(data):
    save_as(data, picture(900).convert("RGBA"))


SPOILED: list[tuple[str, Callable[[Data], None]]] = [
    ("no-images", no_images),
    ("unreadable-images", unreadable),
    ("unreadable-images", deep),
    ("missing-files", missing_files),
    ("identities-in-train-and-test", in_both),
    ("query-or-gallery-missing", no_gallery),
    ("query-or-gallery-missing", no_queries),
    ("no-query-with-match", no_match),
    ("no-query-with-match", own_camera_alone),
    ("queries-without-identity", nameless_queries),
    ("gallery-without-identity", nameless_gallery),
    ("counts-differ-from-published", fewer_than_published),
    ("ignored-images", ignored_images),
    ("ignored-files", ignored_files),
    ("queries-without-match", one_query_alone),
    ("no-cameras", no_cameras),
    ("one-camera", one_camera),
    ("few-images", few_images),
    ("few-images-in-camera", few_in_camera),
    ("dominant-camera", dominant),
    ("camera-not-in-train", untrained_camera),
    ("camera-without-shared-identity", isolated_camera),
    ("no-identity-in-two-cameras", nobody_in_two_cameras),
    ("cameras-without-common-identity", apart),
    ("one-identity", one_identity),
    ("track-of-two-identities", jumping_track),
    ("unknown-identities", unknown_identities),
    ("identities-in-one-camera", alone_in_a_camera),
    ("identities-with-one-image", one_image),
    ("duplicates-in-train-and-test", same_in_test),
    ("duplicates-of-two-identities", same_of_two_people),
    ("duplicates-in-two-cameras", same_in_two_cameras),
    ("duplicates", same_again),
    ("near-duplicates-in-train-and-test", near_in_test),
    ("near-duplicates-of-two-identities", near_of_two_people),
    ("near-duplicates-in-two-cameras", near_in_two_cameras),
    ("near-duplicates", near_again),
    ("blank-images", blank),
    ("small-images", small),
    ("small-images", low),
    ("unusual-shapes", wide),
    ("unusual-shapes", tall),
    ("mixed-modes", grey),
    ("mixed-modes", transparent),
]
WHILE_READING = {"split-missing", "split-unreadable"}
"""Findings of the reader of registered sets; test_reading.py has their tests."""
WITHOUT_A_LOOK = {"not-decoded"}


def test_data_without_fault_have_no_finding(data):
    findings = data.examine()
    assert findings.findings == ()
    assert not findings.has_errors


@pytest.mark.parametrize(
    ("code", "spoil"), SPOILED, ids=[f"{code}-{spoil.__name__}" for code, spoil in SPOILED]
)
def test_a_fault_is_found(data, code, spoil):
    spoil(data)
    findings = data.examine()
    found = [finding for finding in findings.findings if finding.code == code]
    assert len(found) == (3 if code in ("counts-differ-from-published", "ignored-files") else 1)
    assert found[0].severity == CODES[code].severity
    assert findings.has_errors == any(one.severity == "error" for one in findings.findings)
    for finding in found:
        assert "\n" not in finding.message
        assert any(letter.isdigit() for letter in finding.message) or code == "no-images"
        assert len(finding.examples) <= 3
        assert str(data.folder) not in " ".join(finding.examples)


def test_every_code_has_a_test():
    assert {code for code, _ in SPOILED} | WHILE_READING | WITHOUT_A_LOOK == set(CODES)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (in_both, {"identities-in-train-and-test", "queries-without-match"}),
        (same_in_two_cameras, {"duplicates-in-two-cameras"}),
        (near_again, {"near-duplicates"}),
        (isolated_camera, {"camera-without-shared-identity", "identities-in-one-camera"}),
        (nobody_in_two_cameras, {"no-identity-in-two-cameras"}),
        (alone_in_a_camera, {"identities-in-one-camera"}),
        (one_query_alone, {"queries-without-match"}),
        (blank, {"blank-images"}),
        (deep, {"unreadable-images"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_fault_is_not_taken_for_another(data, spoil, expected):
    spoil(data)
    assert codes(data.examine()) - {"track-of-two-identities"} == expected


def test_findings_come_the_gravest_first(data):
    for spoil in (grey, one_query_alone, in_both, same_again):
        spoil(data)
    severities = [one.severity for one in data.examine().findings]
    assert severities == sorted(severities, key=("error", "warning", "note").index)
    assert len(set(severities)) == 3


def message_of(data, code):
    return next(one for one in data.examine().findings if one.code == code)


def test_queries_without_a_match_are_counted_and_named(data):
    give(data, "identity", "stranger", data.of("query")[:5])
    found = message_of(data, "queries-without-match")
    assert found.message == "5 of 12 queries have no match in another camera of the gallery"
    assert found.examples == tuple(
        Path(row["path"]).relative_to(data.folder).as_posix() for row in data.of("query")[:3]
    )


def test_unreadable_files_are_named_with_their_reasons(data):
    unreadable(data)
    found = message_of(data, "unreadable-images")
    assert found.message.startswith("3 of 180 images cannot be read: 1 ")
    assert {example.rpartition(" (")[2] for example in found.examples} == {
        "empty file)",
        "not an image)",
        "No such file or directory)",
    }


def test_without_cameras_a_match_is_one_in_the_gallery_at_all(data):
    own_camera_alone(data)
    data.columns = ("identity", "split")
    assert codes(data.examine()) == {"no-cameras"}
    give(data, "identity", "stranger", data.of("query")[:1])
    assert message_of(data, "queries-without-match").message.endswith("no match in the gallery")


def test_a_look_that_decodes_nothing_finds_missing_and_empty_files_alone(data):
    unreadable(data)
    blank_row = data.of("train")[5]
    Image.new("RGB", SIZE).save(blank_row["path"])
    findings = data.examine(decode=False)
    assert codes(findings) == {"unreadable-images", "not-decoded"}
    assert findings.findings[0].message.startswith("2 of 180 images")
    assert findings.sizes is None
    assert findings.duplicates is None
    assert not findings.decoded


def test_duplicates_are_not_looked_for_on_request(data):
    same_in_two_cameras(data)
    findings = data.examine(duplicates=False)
    assert findings.findings == ()
    assert findings.duplicates is None
    assert findings.sizes is not None


def test_counts_are_those_of_the_table(data):
    data.of("train")[0]["identity"] = None
    findings = data.examine(duplicates=False)
    assert [(one.split, one.images, one.identities, one.unknown, one.cameras) for one in findings.splits] == [
        ("train", 144, 8, 1, 3),
        ("query", 12, 4, 0, 3),
        ("gallery", 24, 4, 0, 3),
    ]
    assert [(one.camera, one.images, one.identities, one.train) for one in findings.cameras] == [
        ("gate", 60, 12, 48),
        ("hall", 60, 12, 48),
        ("yard", 60, 12, 48),
    ]
    assert findings.identities is not None
    assert findings.identities.images == (9, 9, 18, 18, 18)
    assert findings.tracks is not None
    assert (findings.tracks.tracks, findings.tracks.images) == (36, 180)
    assert findings.sizes is not None
    assert findings.sizes.width == (24, 24, 24, 24, 24)
    assert findings.sizes.aspect == (2.5, 2.5, 2.5, 2.5, 2.5)
    assert findings.sizes.modes == {"RGB": 180}


def test_a_table_of_paths_alone_is_enough(data):
    paths = [row["path"] for row in data.rows]
    findings = examine(ImageTable(paths), progress=False)
    assert codes(findings) == {"no-cameras"}
    assert findings.splits[0].unknown == findings.images == 180
    assert findings.identities is None
    assert findings.tracks is None


def test_times_are_counted_where_they_are_known(data):
    paths = [row["path"] for row in data.rows[:100]]
    times = np.full(100, np.nan)
    times[:40] = 1.0
    findings = examine(ImageTable(paths, times=times), decode=False)
    assert findings.tracks is not None
    assert (findings.tracks.tracks, findings.tracks.timed) == (0, 40)


def test_what_the_reader_found_is_among_the_findings(data):
    more = [Finding.of("split-missing", "query: not there")]
    assert examine(data.table(), more=more, decode=False).findings[0] == more[0]


def test_rotated_photographs_are_measured_upright(data):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    row = data.of("train")[0]
    Path(row["path"]).unlink()
    picture(900).transpose(Image.Transpose.ROTATE_90).save(row["path"], exif=exif)
    findings = data.examine()
    assert findings.findings == ()
    assert findings.sizes is not None
    assert findings.sizes.width == (24, 24, 24, 24, 24)


def test_data_to_evaluate_on_alone_have_no_finding(data):
    data.without("train")
    assert data.examine().findings == ()


def test_people_and_cameras_may_have_any_names(data):
    names = {f"p{number}": name for number, name in enumerate(["0", "007", "-5", "1e9", "门", "a b"])}
    for row in data.rows:
        row["identity"] = names.get(row["identity"], row["identity"])
        row["camera"] = {"gate": "10", "hall": "9", "yard": "c 🎥"}[row["camera"]]
    findings = data.examine()
    assert findings.findings == ()
    assert [one.camera for one in findings.cameras] == ["10", "9", "c 🎥"]
