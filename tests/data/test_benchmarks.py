"""Published data as the toolbox's classes read them, and anyone's own images in the same layouts."""

import logging
import os
import shutil
from pathlib import Path

import pytest
from fastreid.data.datasets import DATASET_REGISTRY
from PIL import Image

from nplp.data.datasets import UNKNOWN_IDENTITY, load_dataset, load_test_sets, load_training_items
from nplp.engine.supervised import load_labelled
from nplp.errors import UserError
from nplp_synthetic import DomainSpec, write_duke, write_market, write_msmt17
from tiny import TINY

SPEC = DomainSpec(
    name="station",
    **{key.lower(): tuple(value) if isinstance(value, list) else value for key, value in TINY.items()},
)
MARKET = "Market-1501-v15.09.15"
SUFFIXES = (
    "jpg",
    "JPG",
    "jpeg",
    "png",
    "PNG",
    "bmp",
    "webp",
    "tif",
    "TIFF",
    "ppm",
    "pgm",
    "gif",
    "tga",
    "jp2",
)
FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The three benchmarks' folders, named as published, with distractors and junk."""
    folder = tmp_path_factory.mktemp("published")
    for write in (write_market, write_duke, write_msmt17):
        write(SPEC, folder)
    return folder


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A function that makes empty files in Market-1501's layout, under the root of the data sets."""

    def make(root="own", folder=MARKET, **names):
        for subset, subfolder in FOLDERS.items():
            for name in names.get(subset, ()):
                path = tmp_path / root / folder / subfolder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / root))
        return tmp_path / root / folder

    return make


@pytest.fixture
def said(caplog):
    """What the log says of a subset, in one line."""
    logging.getLogger("nplp").propagate = True
    caplog.set_level(logging.INFO)

    def line(subset):
        (found,) = [text for text in caplog.messages if f", {subset}: " in text]
        return found

    return line


def people_of(items):
    return [identity for _, identity, _ in items]


def cameras_of(items):
    return [camera for _, _, camera in items]


def as_the_toolbox_reads(name, root):
    data = DATASET_REGISTRY.get(name)(root=str(root))
    return {
        subset: sorted(getattr(data, subset), key=lambda item: item[0])
        for subset in ("train", "query", "gallery")
    }


@pytest.mark.parametrize("name", ["Market1501", "DukeMTMC", "MSMT17"])
def test_published_data_are_what_the_toolbox_reads(tiny_cfg, published, monkeypatch, name):
    monkeypatch.setenv("FASTREID_DATASETS", str(published))
    data = load_dataset(tiny_cfg, name)
    expected = as_the_toolbox_reads(name, published)
    assert {subset: getattr(data, subset) for subset in expected} == expected
    types = [{(type(a), type(b), type(c)) for a, b, c in part} for part in (data.train, data.query)]
    assert types == [{(str, str, str)}, {(str, int, int)}]


def test_a_root_that_is_market_1501_itself_is_read_as_by_the_toolbox(tiny_cfg, published, monkeypatch):
    root = f"{published / MARKET}/"
    monkeypatch.setenv("FASTREID_DATASETS", root)
    with pytest.warns(UserWarning, match="deprecated"):
        expected = as_the_toolbox_reads("Market1501", root)
    data = load_dataset(tiny_cfg, "Market1501")
    assert {subset: getattr(data, subset) for subset in expected} == expected


def test_msmt17_of_version_2_is_read_as_by_the_toolbox(tiny_cfg, published, tmp_path, monkeypatch, said):
    folder = tmp_path / "MSMT17_V2"
    shutil.copytree(published / "MSMT17_V1", folder)
    (folder / "train").rename(folder / "mask_train_v2")
    (folder / "test").rename(folder / "mask_test_v2")
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    data = load_dataset(tiny_cfg, "MSMT17")
    expected = as_the_toolbox_reads("MSMT17", tmp_path)
    assert {subset: getattr(data, subset) for subset in expected} == expected
    assert "MSMT17_V2/mask_train_v2' by list_train.txt, version 2" in said("train")


@pytest.mark.parametrize(("main", "training"), [("MSMT17", "train"), ("MSMT17_V1", "mask_train_v2")])
def test_msmt17_under_other_folder_names_is_recognised(tiny_cfg, tmp_path, monkeypatch, main, training):
    folder = tmp_path / main
    (folder / training).mkdir(parents=True)
    (folder / "list_train.txt").write_text("0007/0007_000_15_0303morning_0008_0.jpg 7\r\n\n")
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    path = str(folder / training / "0007/0007_000_15_0303morning_0008_0.jpg")
    assert load_training(tiny_cfg, "MSMT17") == [(path, "msmt17_7", "msmt17_14")]


def load_training(cfg, name):
    return load_dataset(cfg, name, ("train",)).train


@pytest.mark.parametrize("line", ["0000/0000_000_01_0303morning_0008_0.jpg", "0000/0000_one_x.jpg 3", "x"])
def test_a_line_of_a_list_that_does_not_parse_is_named(tiny_cfg, published, tmp_path, monkeypatch, line):
    shutil.copytree(published / "MSMT17_V1", tmp_path / "MSMT17_V1")
    path = tmp_path / "MSMT17_V1" / "list_query.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], line, *lines[2:]]))
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    with pytest.raises(UserError, match=r"line 3 of .*list_query\.txt") as caught:
        load_dataset(tiny_cfg, "MSMT17")
    assert repr(line) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert load_training(tiny_cfg, "MSMT17")


@pytest.mark.parametrize("missing", ["list_query.txt", "list_train.txt", "train", "test"])
def test_a_list_or_folder_of_msmt17_that_is_missing_is_named_if_it_is_used(
    tiny_cfg, published, tmp_path, monkeypatch, missing
):
    shutil.copytree(published / "MSMT17_V1", tmp_path / "MSMT17_V1")
    path = tmp_path / "MSMT17_V1" / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    with pytest.raises(UserError) as caught:
        load_dataset(tiny_cfg, "MSMT17")
    assert f"MSMT17: looked for {str(path)!r}, which does not exist" in str(caught.value)
    others = ("train",) if missing in ("list_query.txt", "test") else ("query", "gallery")
    assert all(getattr(load_dataset(tiny_cfg, "MSMT17", others), subset) for subset in others)


@pytest.mark.parametrize("name", ["Market1501", "DukeMTMC"])
def test_numbers_of_people_and_cameras_have_no_limit(tiny_cfg, own, name):
    names = ["0002_c1s1_0.jpg", "1502_c7s1_0.jpg", "20231201_c10s3_0.jpg", f"{10**25}_c123.jpg"]
    own(folder=MARKET if name == "Market1501" else "DukeMTMC-reID", train=names, query=names, gallery=names)
    data = load_dataset(tiny_cfg, name)
    prefix = {"Market1501": "market1501", "DukeMTMC": "dukemtmc"}[name]
    assert set(people_of(data.train)) == {f"{prefix}_{number}" for number in (2, 1502, 20231201, 10**25)}
    assert set(cameras_of(data.train)) == {f"{prefix}_{number}" for number in (0, 6, 9, 122)}
    assert people_of(data.query) == people_of(data.gallery)
    assert len(set(people_of(data.query))) == 4
    # They become tensors.
    assert all(abs(number) < 2**63 for number in people_of(data.query))
    assert set(cameras_of(data.query)) == {0, 6, 9, 122}


def test_the_name_of_a_parent_folder_says_nothing_of_people_and_cameras(tiny_cfg, own):
    names = ["0007_c4s1_0.jpg", "0008_c5s1_0.jpg"]
    own("run_3_c2", train=names, query=names, gallery=names)
    data = load_dataset(tiny_cfg, "Market1501")
    assert people_of(data.train) == ["market1501_7", "market1501_8"]
    assert people_of(data.query) == [7, 8]
    assert cameras_of(data.gallery) == [3, 4]


@pytest.mark.parametrize("root", ["a [1] b", "every*thing", "what?", "監視 カメラ 🎥", "~home"])
def test_folders_are_taken_literally(tiny_cfg, own, root):
    folder = own(root, train=["0001_c1.jpg"])
    ((path, _, _),) = load_training(tiny_cfg, "Market1501")
    assert path == str(folder / "bounding_box_train" / "0001_c1.jpg")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_that_can_be_decoded_counts(tiny_cfg, own, suffix):
    folder = own(train=["0001_c1.jpg"])
    path = folder / "bounding_box_train" / f"0002_c1.{suffix}"
    Image.new("L" if suffix == "pgm" else "RGB", (8, 16)).save(path)
    cfg = tiny_cfg.clone()
    cfg.defrost()
    cfg.DATASETS.NAMES, cfg.DATASETS.SKIP_CORRUPT = ("Market1501",), True
    assert [item[0] for item in load_training_items(cfg)] == [str(path)], "the empty file is left out"


@pytest.mark.parametrize("suffix", ["mpg", "eps", "hdf", "txt", "npy", "mp4", "db", ""])
def test_other_files_are_no_images(tiny_cfg, own, said, suffix):
    name = f"0002_c1.{suffix}".removesuffix(".")
    own(train=["0001_c1.jpg", name])
    assert len(load_training(tiny_cfg, "Market1501")) == 1
    assert f"1 file left out: 1 of no image format (first '{name}')" in said("train")


@pytest.mark.parametrize(
    "name", ["0001_c1 人物 001.jpg", "0001_c1_été.jpg", "0001_c1 🎥.png", "0001_c1 [1]*?.jpg"]
)
def test_names_in_all_alphabets_are_read(tiny_cfg, own, name):
    folder = own(train=[name, "0002_c1.jpg"])
    for file in (name, "0002_c1.jpg"):
        Image.new("RGB", (8, 16), (200, 10, 10)).save(folder / "bounding_box_train" / file)
    cfg = tiny_cfg.clone()
    cfg.defrost()
    cfg.DATASETS.NAMES = ("Market1501",)
    found = {Path(item[0]).name: item[1] for item in load_training_items(cfg)}
    assert found == {name: "market1501_1", "0002_c1.jpg": "market1501_2"}


def test_what_is_left_out_is_counted_by_reason_and_the_first_named(tiny_cfg, own, said):
    own(
        train=[
            "0001_c1.jpg",
            "0002_c2.jpg",
            "._0001_c1.jpg",
            "Thumbs.db",
            "holiday.jpg",
            "zoo.png",
            "c3_0001.jpg",
        ],
        query=["0001_c1.jpg"],
        gallery=["0001_c2.jpg", "0000_c2.jpg", "-1_c1.jpg", "-1_c2.jpg"],
    )
    data = load_dataset(tiny_cfg, "Market1501")
    line = said("train")
    assert line.startswith("Market1501, train: 2 images, 2 people, 2 cameras, from ")
    assert (
        "5 files left out: 1 hidden (first '._0001_c1.jpg'), 1 of no image format (first 'Thumbs.db'), "
        in line
    )
    assert "3 whose name does not follow the data set's naming" in line
    assert line.endswith("(first 'c3_0001.jpg')")
    assert "left out" not in said("query")
    assert said("gallery").startswith("Market1501, gallery: 2 images, 2 people, 1 camera, from ")
    assert said("gallery").endswith("; 2 files left out: 2 junk, person -1 (first '-1_c1.jpg')")
    assert people_of(data.gallery) == [0, 1], "distractors count, junk does not"


def test_one_name_in_two_folders_is_two_images(tiny_cfg, own):
    folder = own(train=["camera 1/0001_c1.jpg", "camera 2/0001_c1.jpg", ".trash/0001_c1.jpg"])
    os.symlink(folder / "bounding_box_train", folder / "bounding_box_train" / "camera 1" / "circle")
    paths = [item[0] for item in load_training(tiny_cfg, "Market1501")]
    assert [os.path.relpath(path, folder / "bounding_box_train") for path in paths] == [
        "camera 1/0001_c1.jpg",
        "camera 2/0001_c1.jpg",
    ]


def test_links_are_followed(tiny_cfg, own, tmp_path):
    folder = own(query=["0001_c1.jpg"])
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "picture").touch()
    os.symlink(tmp_path / "elsewhere", folder / "bounding_box_train")
    os.symlink(tmp_path / "elsewhere" / "picture", tmp_path / "elsewhere" / "0005_c3.jpg")
    assert people_of(load_training(tiny_cfg, "Market1501")) == ["market1501_5"]


@pytest.mark.skipif(os.name != "posix", reason="names are text there")
def test_a_name_of_another_encoding_is_read_and_can_be_told(tiny_cfg, own, said):
    names = [os.fsdecode(name) for name in (b"0001_c1_\xff.jpg", b"\xfe.jpg")]
    folder = own(train=names) / FOLDERS["train"]
    cfg = tiny_cfg.clone()
    cfg.defrost()
    cfg.DATASETS.NAMES = ("Market1501",)
    with pytest.raises(UserError, match=r"0001_c1_\\udcff\.jpg \(empty file\)") as caught:
        load_training_items(cfg)
    str(caught.value).encode("utf-8")
    assert said("train").endswith(r"(first '\udcfe.jpg')")
    Image.new("RGB", (8, 16)).save(folder / names[0])
    assert len(load_training_items(cfg)) == 1


def test_a_folder_that_cannot_be_listed_is_one_line(tiny_cfg, own, monkeypatch):
    folder = own(train=["0001_c1.jpg"]) / FOLDERS["train"]

    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("nplp.data.benchmarks.os.scandir", refuse)
    with pytest.raises(UserError, match=rf"{folder}' cannot be listed \(Permission denied\)"):
        load_training(tiny_cfg, "Market1501")


@pytest.mark.parametrize("subsets", [("train",), ("query", "gallery")])
@pytest.mark.parametrize("name", ["Market1501", "DukeMTMC"])
def test_only_what_is_used_must_be_there(tiny_cfg, own, subsets, name):
    names = {subset: ["0001_c1.jpg", "0001_c2.jpg"] for subset in subsets}
    own(folder=MARKET if name == "Market1501" else "DukeMTMC-reID", **names)
    data = load_dataset(tiny_cfg, name, subsets)
    assert [len(getattr(data, subset)) for subset in ("train", "query", "gallery")] == [
        2 * (subset in subsets) for subset in ("train", "query", "gallery")
    ]
    with pytest.raises(UserError, match="looked for .*which does not exist"):
        load_dataset(tiny_cfg, name)


def test_a_set_of_which_nothing_can_be_used_says_why(tiny_cfg, own):
    own(train=["holiday.jpg", "Thumbs.db"])
    with pytest.raises(UserError, match=r"the train set .* holds no image.* 2 files left out: .*'Thumbs.db'"):
        load_training(tiny_cfg, "Market1501")


@pytest.fixture
def unlabelled_cfg(tiny_cfg, own):
    folder = own(
        train=["-1_c1_a.jpg", "-1_c2_b.jpg", "0003_c1.jpg"], query=["0001_c1.jpg"], gallery=["0001_c2.jpg"]
    )
    for path in folder.rglob("*.jpg"):
        Image.new("RGB", (8, 16)).save(path)
    cfg = tiny_cfg.clone()
    cfg.defrost()
    cfg.DATASETS.NAMES = cfg.DATASETS.TESTS = ("Market1501",)
    return cfg


def test_training_images_of_unknown_people_are_kept_for_adaptation(unlabelled_cfg, said):
    assert people_of(load_training_items(unlabelled_cfg)) == [
        UNKNOWN_IDENTITY,
        UNKNOWN_IDENTITY,
        "market1501_3",
    ]
    assert "3 images, 1 person, 2 images of nobody known, 2 cameras" in said("train")


def test_training_images_of_unknown_people_are_no_source(unlabelled_cfg):
    with pytest.raises(
        UserError, match=r"Market1501: 2 of 3 training images have no identity .*-1_c1_a\.jpg"
    ):
        load_labelled(unlabelled_cfg)


def test_test_sets_do_not_need_the_training_images(unlabelled_cfg, tmp_path):
    shutil.rmtree(tmp_path / "own" / MARKET / "bounding_box_train")
    (data,) = load_test_sets(unlabelled_cfg)
    assert (len(data.train), len(data.query), len(data.gallery)) == (0, 1, 1)


def test_no_test_set_is_said_where_it_may_be_and_refused_where_not(unlabelled_cfg, caplog, said):
    unlabelled_cfg.DATASETS.TESTS = ()
    assert load_test_sets(unlabelled_cfg, optional=True) == []
    assert "DATASETS.TESTS names no data set: nothing is evaluated" in caplog.messages
    with pytest.raises(UserError, match="DATASETS.TESTS names no data set to evaluate on"):
        load_test_sets(unlabelled_cfg)
