"""Own images as a data set: training items, how labelled images are evaluated, unknown cameras, tracks."""

import itertools
import logging
import os
import shutil

import numpy as np
import pytest
from fastreid.data.datasets import DATASET_REGISTRY
from hypothesis import given, settings
from hypothesis import strategies as st

from nplp.config import default_config
from nplp.config.ignored import warn_of_ignored
from nplp.config.validation import validate_config
from nplp.data import own_dataset
from nplp.data.datasets import (
    UNKNOWN_IDENTITY,
    load_dataset,
    load_test_sets,
    load_training_items,
    queries_alone,
)
from nplp.data.image_table import ImageTable
from nplp.data.own_dataset import UNKNOWN_CAMERA, own_image_table, own_subsets, tracks_and_times
from nplp.errors import UserError
from nplp.evaluation.ranking import evaluate_rank


@pytest.fixture
def cfg(tmp_path, monkeypatch):
    """A configuration of the data set alone, whose source is still to be set."""
    monkeypatch.setattr(own_dataset, "_READ", {})
    cfg = default_config()
    cfg.MODEL.DEVICE = "cpu"
    cfg.DATASETS.NAMES = cfg.DATASETS.TESTS = ("OwnImages",)
    cfg.DATASETS.VERIFY = False
    return cfg


@pytest.fixture
def write(cfg, tmp_path):
    """A function that writes a table and its (empty) images, and makes it the source."""

    def table(header, *rows, name="table.csv"):
        place = header.split(",").index("path")
        for row in rows:
            path = tmp_path / row.split(",")[place]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        (tmp_path / name).write_text("\n".join([header, *rows]), encoding="utf-8")
        cfg.DATASETS.OWN.SOURCE = str(tmp_path / name)

    return table


@pytest.fixture
def said(caplog):
    logging.getLogger("nplp").propagate = True
    caplog.set_level(logging.INFO)
    return caplog


def brief(items):
    return [(os.path.basename(path), identity, camera) for path, identity, camera in items]


def test_splits_of_a_table_are_followed(cfg, write, said):
    write(
        "path,camera,identity,split",
        "a.jpg,hall,7,train",
        "b.jpg,gate,,",
        "c.jpg,gate,Ann,query",
        "d.jpg,hall,Ann,gallery",
        "e.jpg,hall,Bob,gallery",
        "f.jpg,hall,,gallery",
    )
    assert brief(load_training_items(cfg)) == [("a.jpg", "7", "hall"), ("b.jpg", UNKNOWN_IDENTITY, "gate")]
    (data,) = load_test_sets(cfg)
    assert brief(data.query) == [("c.jpg", 0, 0)]
    assert brief(data.gallery) == [("d.jpg", 0, 1), ("e.jpg", 1, 1)]
    assert [data.camera_name(number) for number in (0, 1)] == ["gate", "hall"], "as in the training set"
    assert (
        "OwnImages, train: 2 images, 1 person, 1 image of nobody known, 2 cameras, from the table"
        in said.text
    )
    assert "OwnImages, gallery: 2 images, 2 people, 1 camera" in said.text
    assert "1 file left out: 1 of nobody known (first 'f.jpg')" in said.text


def test_a_table_without_splits_is_trained_on_and_evaluated_by_a_fixed_rule(cfg, write, said):
    rows = [
        f"{person}{camera}{shot}.jpg,{camera},{person}"
        for person in "AB"
        for camera in "xy"
        for shot in "123"
    ]
    write("path,camera,identity", *rows, "C1.jpg,x,C", "D1.jpg,x,D", "D2.jpg,y,D", "U1.jpg,y,")
    assert len(load_training_items(cfg)) == 16
    (data,) = load_test_sets(cfg)
    names = [name for name, _, _ in brief(data.query)]
    assert names == ["Ax2.jpg", "Ay2.jpg", "Bx2.jpg", "By2.jpg", "D1.jpg", "D2.jpg"]
    others = [row.split(",")[0] for row in rows if row.split(",")[0] not in names]
    assert [name for name, _, _ in brief(data.gallery)] == [*others, "C1.jpg", "D1.jpg", "D2.jpg"]
    assert len(queries_alone(data)) == 0
    assert (
        "every labelled image is evaluated, as no split is given: one query for each person and camera"
        in said.text
    )


LABELLED = st.lists(
    st.tuples(st.sampled_from(["A", "B", "C", None]), st.sampled_from(["x", "y", "z"])),
    min_size=2,
    max_size=14,
)


@given(LABELLED, st.booleans())
@settings(max_examples=150, deadline=None)
def test_every_query_has_a_match_and_nothing_labelled_is_lost(rows, has_cameras):
    paths = [f"{number:02d}.jpg" for number in range(len(rows))]
    cameras = [camera for _, camera in rows] if has_cameras else None
    people = [person for person, _ in rows]
    if not any(people):
        return
    found = own_subsets(ImageTable(paths, cameras, people), ("query", "gallery"))
    query, gallery = ({item[0] for item in found[subset].items} for subset in ("query", "gallery"))
    assert query | gallery == {path for path, person in zip(paths, people, strict=True) if person}
    views = {}
    for path, (person, camera) in zip(paths, rows, strict=True):
        views.setdefault((person, camera if has_cameras else ""), []).append(path)
    together = has_cameras and len(set(cameras)) > 1
    for (person, camera), members in views.items():
        elsewhere = any(key[0] == person and key[1] != camera for key in views)
        expected = person is not None and (
            elsewhere
            if together
            else len([path for path, each in zip(paths, people, strict=True) if each == person]) > 1
        )
        if together:
            assert len(query.intersection(members)) == int(expected)
            assert (query & gallery).intersection(members) == (
                set(members) if expected and len(members) == 1 else set()
            )
    if not together:
        assert not query & gallery
        assert len(query) == sum(people.count(person) > 1 for person in {*people} - {None})
    numbers = {subset: [(item[1], item[2]) for item in found[subset].items] for subset in found}
    for person, camera in numbers["query"]:
        assert any(each == person and other != camera for each, other in numbers["gallery"])


@pytest.mark.parametrize("column", ["", "gate"])
def test_without_two_cameras_no_match_is_left_out_and_the_loss_is_said(cfg, write, said, column):
    rows = [f"{person}{shot}.jpg,{person},{column}" for person in "AB" for shot in "123"]
    write("path,identity,camera", *rows)
    name = column or UNKNOWN_CAMERA
    assert {camera for _, _, camera in load_training_items(cfg)} == {name}
    (data,) = load_test_sets(cfg)
    assert [item[0] for item in brief(data.query)] == ["A2.jpg", "B2.jpg"]
    assert [item[0] for item in brief(data.gallery)] == ["A1.jpg", "A3.jpg", "B1.jpg", "B3.jpg"]
    assert {data.camera_name(item[2]) for item in data.query + data.gallery} == {name}
    arrays = [
        np.array([item[place] for item in part]) for place in (1, 2) for part in (data.query, data.gallery)
    ]
    distances = np.array([[0.1, 0.9, 0.2, 0.3], [0.5, 0.6, 0.1, 0.2]])
    ranking = evaluate_rank(distances, arrays[0], arrays[1], arrays[2], arrays[3])
    # A's matches are ranked 1 and 4, B's 1 and 2: none is left out.
    np.testing.assert_allclose(sorted(ranking.all_ap), [(1 + 2 / 4) / 2, 1])
    (warned,) = [record.getMessage() for record in said.records if record.levelno == logging.WARNING]
    assert ("one alone, 'gate'" if column else "are unknown") in warned
    for lost in ("eq. 4", "TEST.CAMERAS", "figures count matches whatever their camera"):
        assert lost in warned


def test_nobody_known_is_no_test_set(cfg, write):
    write("path,camera", "a.jpg,1", "b.jpg,2")
    assert len(load_training_items(cfg)) == 2
    with pytest.raises(
        UserError, match="OwnImages: no image in the table .* has an identity.*DATASETS.TESTS"
    ):
        load_test_sets(cfg)


def test_a_split_that_holds_nothing_is_said(cfg, write):
    write("path,camera,identity,split", "a.jpg,1,A,train", "b.jpg,2,A,gallery")
    with pytest.raises(UserError, match="OwnImages: the query set in the table .* holds no image"):
        load_test_sets(cfg)


def test_a_run_reads_the_disk_once_and_again_where_it_changed(cfg, tmp_path, monkeypatch):
    for name in ("gate/1.jpg", "hall/deep/2.jpg"):
        (tmp_path / "crops" / name).parent.mkdir(parents=True)
        (tmp_path / "crops" / name).touch()
    cfg.DATASETS.OWN.SOURCE = str(tmp_path / "crops")
    reads = []
    read = own_dataset.read_image_table
    monkeypatch.setattr(own_dataset, "read_image_table", lambda *a, **k: reads.append(a) or read(*a, **k))
    first = own_image_table(cfg)
    assert own_image_table(cfg.clone()) is first
    load_training_items(cfg)
    assert len(reads) == 1
    shutil.copy(tmp_path / "crops/gate/1.jpg", tmp_path / "crops/hall/deep/3.jpg")
    os.utime(tmp_path / "crops/hall/deep", ns=(1, 1))
    assert len(own_image_table(cfg)) == 3
    cfg.DATASETS.OWN.CAMERA_PATTERN = r"(?P<camera>\d)\.jpg"
    assert set(own_image_table(cfg).cameras) == {"1", "2", "3"}
    assert len(reads) == 3


def test_a_table_that_changed_is_read_again(cfg, write):
    write("path,camera", "a.jpg,1")
    assert len(own_image_table(cfg)) == 1
    write("path,camera", "a.jpg,1", "b.jpg,1")
    os.utime(cfg.DATASETS.OWN.SOURCE, ns=(1, 1))
    assert len(own_image_table(cfg)) == 2


def test_rows_without_a_file_follow_skip_corrupt(cfg, write, tmp_path, said):
    write("path,camera", "a.jpg,1", "b.jpg,2")
    (tmp_path / "b.jpg").unlink()
    with pytest.raises(UserError, match="else DATASETS.SKIP_CORRUPT True"):
        load_dataset(cfg, "OwnImages", ("train",))
    cfg.DATASETS.SKIP_CORRUPT = True
    assert brief(load_dataset(cfg, "OwnImages", ("train",)).train) == [("a.jpg", UNKNOWN_IDENTITY, "1")]
    assert "1 file left out: 1 that the table names and that do not exist (first 'b.jpg')" in said.text


def test_columns_are_mapped_by_the_configuration(cfg, write):
    write("path,cam", "a.jpg,1", "b.jpg,2")
    cfg.DATASETS.OWN.COLUMNS = ("camera=cam",)
    assert [camera for _, _, camera in load_training_items(cfg)] == ["1", "2"]


def test_tracks_and_times_are_in_the_order_of_the_items(cfg, write):
    write(
        "path,camera,track,time",
        "d.jpg,hall,1,3.5",
        "a.jpg,gate,1,0",
        "c.jpg,gate,1,",
        "b.jpg,hall,x,1",
        "e.jpg,hall,,9",
    )
    items = load_training_items(cfg)[::-1]
    items.insert(2, ("elsewhere/f.jpg", "market1501_2", "market1501_0"))
    found = tracks_and_times(cfg, items)
    assert [os.path.basename(item[0])[0] for item in items] == list("edfcba")
    np.testing.assert_array_equal(found.tracks, [-1, 1, -1, 0, 2, 0])
    np.testing.assert_array_equal(found.times, [9, 3.5, np.nan, np.nan, 1, 0])
    assert (found.tracks.dtype, found.times.dtype) == (np.int64, np.float64)


def test_without_tracks_and_times_none_is_known(cfg, write):
    write("path", "a.jpg", "b.jpg")
    found = tracks_and_times(cfg, load_training_items(cfg))
    assert found.tracks.tolist() == [-1, -1]
    assert np.isnan(found.times).all()


@pytest.mark.parametrize("own", itertools.product(["", "crops"], [(), ("OwnImages",)]))
def test_a_source_is_needed_where_the_set_is_used_and_idle_elsewhere(said, own):
    source, names = own
    cfg = default_config()
    cfg.merge_from_list(["MODEL.META_ARCHITECTURE", "NPLP", "MODEL.DEVICE", "cpu"])
    cfg.DATASETS.OWN.SOURCE, cfg.DATASETS.NAMES = source, names
    if names and not source:
        with pytest.raises(UserError, match="DATASETS.OWN.SOURCE is empty"):
            own_image_table(cfg)
        return
    validate_config(cfg)
    warn_of_ignored(cfg)
    assert ("no effect while OwnImages is no data set of the run" in said.text) == bool(source and not names)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("CAMERA_PATTERN", "(c", "DATASETS.OWN.CAMERA_PATTERN '(c' is no regular expression"),
        ("CAMERA_PATTERN", "c", "DATASETS.OWN.CAMERA_PATTERN 'c' has no group named camera"),
        ("COLUMNS", ("cam",), "DATASETS.OWN.COLUMNS must be OURS=THEIRS, such as camera=cam_id, got 'cam'"),
        ("COLUMNS", ("cam=x",), "DATASETS.OWN.COLUMNS give a column 'cam': ours are path, camera"),
    ],
)
def test_wrong_values_are_said_with_the_key(key, value, message):
    cfg = default_config()
    cfg.merge_from_list(["MODEL.META_ARCHITECTURE", "NPLP", "MODEL.DEVICE", "cpu"])
    cfg.DATASETS.OWN[key] = value
    with pytest.raises(UserError) as caught:
        validate_config(cfg)
    assert str(caught.value).startswith(message)


def test_the_toolbox_builds_it_too(write, cfg):
    write("path,cam,identity", "a.jpg,x,A", "b.jpg,y,A")
    build = DATASET_REGISTRY.get("OwnImages")
    data = build(root="datasets", source=cfg.DATASETS.OWN.SOURCE, columns=("camera=cam",))
    assert (brief(data.train), data.query) == ([("a.jpg", "A", "x"), ("b.jpg", "A", "y")], [])
    with pytest.raises(UserError, match="set DATASETS.OWN.SOURCE"):
        build(root="datasets")
