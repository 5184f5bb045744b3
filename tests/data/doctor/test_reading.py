"""Registered data sets as doctor reads them, and published counts."""

import shutil

import pytest

from doctor_cases import codes, picture
from nplp.data.datasets import load_dataset
from nplp.data.doctor import examine
from nplp.data.doctor.labels import Labels
from nplp.data.doctor.published import PUBLISHED, compare
from nplp.data.doctor.reading import read_data, read_registered
from nplp.data.image_table import ImageTable
from nplp.errors import UserError
from nplp_synthetic import DomainSpec, write_duke, write_market, write_msmt17
from tiny import TINY

SPEC = DomainSpec(
    name="station",
    **{key.lower(): tuple(value) if isinstance(value, list) else value for key, value in TINY.items()},
)
MARKET = "Market-1501-v15.09.15"


@pytest.fixture(scope="module")
def master(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    for write in (write_market, write_duke, write_msmt17):
        write(SPEC, folder)
    return folder


@pytest.fixture
def root(master, tmp_path, monkeypatch):
    shutil.copytree(master, tmp_path / "root")
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "root"))
    return tmp_path / "root"


@pytest.mark.parametrize("name", ["Market1501", "DukeMTMC", "MSMT17"])
def test_a_benchmark_is_what_a_run_would_load(root, tiny_cfg, name):
    read = read_data(name)
    data = load_dataset(tiny_cfg, name)
    table = read.table
    expected = [(path, "train") for path, _, _ in data.train]
    expected += [(item[0], split) for split in ("query", "gallery") for item in getattr(data, split)]
    assert sorted(zip(table.paths, table.splits, strict=True)) == sorted(expected)
    cameras = dict(zip(table.paths, table.cameras, strict=True))
    assert all(cameras[path] == camera for path, _, camera in data.train)
    assert all(cameras[path] == data.camera_name(camera) for path, _, camera in data.query)
    findings = examine(table, name, read.findings, decode=False)
    assert not findings.has_errors
    assert "counts-differ-from-published" in codes(findings)


def test_the_same_person_has_one_name_in_training_and_test(root):
    folder = root / MARKET
    shutil.copy(next((folder / "query").glob("*.jpg")), folder / "query" / "0900_c1s1_0.jpg")
    shutil.copy(next((folder / "query").glob("*.jpg")), folder / "bounding_box_train" / "0900_c2s1_0.jpg")
    read = read_data("Market1501")
    findings = examine(read.table, read.name, decode=False)
    (found,) = [one for one in findings.findings if one.code == "identities-in-train-and-test"]
    assert found.examples == ("identity market1501_900",)


def test_junk_is_ignored_and_distractors_are_kept(root):
    table = read_data("Market1501").table
    assert table.left_out["junk, person -1"]
    assert "market1501_0" in table.identities
    assert not any("/-1_" in path for path in table.paths)


@pytest.mark.parametrize(("missing", "split"), [("query", "query"), ("bounding_box_train", "train")])
def test_a_split_that_is_missing_is_a_finding(root, missing, split):
    shutil.rmtree(root / MARKET / missing)
    read = read_data("Market1501")
    (finding,) = read.findings
    assert finding.code == "split-missing"
    assert finding.message.startswith(f"{split}: Market1501: looked for ")
    assert split not in read.table.splits


def test_a_list_that_cannot_be_read_is_an_error(root):
    (root / "MSMT17_V1" / "list_query.txt").write_text("no such line\n")
    read = read_data("MSMT17")
    assert [one.code for one in read.findings] == ["split-unreadable"]
    assert read.findings[0].severity == "error"
    assert "query" not in read.table.splits


def test_a_benchmark_that_is_not_there_at_all_is_a_mistake(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    with pytest.raises(UserError, match="DukeMTMC: looked for"):
        read_registered("DukeMTMC")


def test_either_version_of_msmt17_is_recognised_and_named(root):
    assert "version 1" in read_data("MSMT17").table.source
    (root / "MSMT17_V1").rename(root / "MSMT17_V2")
    for old, new in (("train", "mask_train_v2"), ("test", "mask_test_v2")):
        (root / "MSMT17_V2" / old).rename(root / "MSMT17_V2" / new)
    assert "version 2" in read_data("MSMT17").table.source


def test_pku_reid_has_one_name_for_a_person_in_both_halves(tmp_path, monkeypatch):
    folder = tmp_path / "pku-reid" / "images"
    folder.mkdir(parents=True)
    for person in range(1, 7):
        for camera in (1, 2):
            for view in range(1, 5):
                picture(100 * person + 10 * camera + view).save(
                    folder / f"{person:04}_{camera:02}_{view}.png"
                )
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    read = read_data("PKUReid")
    findings = examine(read.table, read.name, progress=False)
    assert findings.identities is not None
    assert findings.identities.identities == 6
    found = {one.code: one for one in findings.findings}
    assert set(found) == {"counts-differ-from-published", "few-images", "few-images-in-camera"}
    assert found["counts-differ-from-published"].message == (
        "PKUReid: 48 of 1,824 images, 6 of 114 identities, 2 of 2 cameras"
    )


def made(name, identities=0):
    """Return labels with the published counts of a benchmark, and so many identities of each split fewer."""
    rows = []
    for split in PUBLISHED[name]:
        people = split.identities - identities
        rows += [(f"{n % people}", f"c{n % split.cameras}", split.split) for n in range(split.images)]
    people, cameras, splits = zip(*rows, strict=True)
    return Labels.of(ImageTable([""] * len(rows), cameras=cameras, identities=people, splits=splits))


@pytest.mark.parametrize("name", ["Market1501", "DukeMTMC", "MSMT17"])
def test_published_counts_have_no_finding_and_fewer_people_have_one(name):
    assert compare(name, made(name)) == []
    found = compare(name, made(name, identities=28))
    assert [one.code for one in found] == ["counts-differ-from-published"] * 3
    train = PUBLISHED[name][0]
    assert f"train: {train.images:,} of {train.images:,} images, " in found[0].message
    assert f"{train.identities - 28:,} of {train.identities:,} identities" in found[0].message


@pytest.mark.parametrize("data", ["no/such/place", "Market1502"])
def test_what_is_neither_a_path_nor_a_name_is_a_mistake(data):
    with pytest.raises(UserError, match="no folder, no file and no registered data set") as caught:
        read_data(data)
    assert repr(data) in str(caught.value)
    assert "Market1501" in str(caught.value)


@pytest.mark.parametrize("options", [{"camera_pattern": "x"}, {"columns": {"camera": "cam"}}])
def test_a_registered_set_takes_no_options_of_folders_and_tables(root, options):
    with pytest.raises(UserError, match=r"write \./Market1501 for the folder"):
        read_data("Market1501", **options)
