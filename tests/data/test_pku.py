"""PKU-Reid's images become tasks: halves of the people by a seed, or all of them."""

import pytest
from PIL import Image

from nplp.config import default_config
from nplp.data.datasets import load_dataset, load_training_items
from nplp.data.pku import read_pku_reid
from nplp.errors import UserError

PEOPLE, VIEWS = 9, 8


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "pku-reid" / "images"
    folder.mkdir(parents=True)
    for person in range(1, PEOPLE + 1):
        for camera in (1, 2):
            for view in range(1, VIEWS + 1):
                name = folder / f"{person:04d}_{camera:02d}_{view}.png"
                Image.new("RGB", (4, 8), (person, camera, view)).save(name)
    return tmp_path


def read(root, split=0, held_out=True):
    return {
        subset: read_pku_reid(subset, str(root), split, held_out).items
        for subset in ("train", "query", "gallery")
    }


def people(items):
    return {item[1] for item in items}


def test_one_half_is_trained_on_and_the_other_evaluated(root):
    parts = read(root)
    assert len(people(parts["train"])) == PEOPLE // 2
    assert people(parts["query"]) == people(parts["gallery"])
    assert people(parts["train"]).isdisjoint(people(parts["query"]))
    assert people(parts["train"]) | people(parts["query"]) == set(range(1, PEOPLE + 1))
    assert len(parts["train"]) == 2 * VIEWS * (PEOPLE // 2)


def test_two_images_of_a_person_and_camera_are_queries_and_the_others_in_the_gallery(root):
    parts = read(root)
    tested = PEOPLE - PEOPLE // 2
    assert len(parts["query"]) == 2 * 2 * tested
    assert len(parts["gallery"]) == 2 * (VIEWS - 2) * tested
    assert set(parts["query"]).isdisjoint(parts["gallery"])
    for person, camera in {item[1:] for item in parts["query"]}:
        assert sum(item[1:] == (person, camera) for item in parts["query"]) == 2


def test_a_split_is_the_same_every_time_and_seeds_differ(root):
    assert read(root, 3) == read(root, 3)
    assert len({frozenset(people(read(root, split)["train"])) for split in range(6)}) > 1
    assert len({tuple(read(root, split, held_out=False)["query"]) for split in range(6)}) == 6


def test_all_people_can_be_both(root):
    parts = read(root, held_out=False)
    assert len(parts["train"]) == 2 * VIEWS * PEOPLE
    assert people(parts["query"]) == people(parts["train"]) == set(range(1, PEOPLE + 1))
    assert set(parts["query"]) | set(parts["gallery"]) == set(parts["train"])


def test_the_configuration_names_the_task_and_cameras_match(root, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(root))
    cfg = default_config()
    cfg.DATASETS.NAMES = ("PKUReid",)
    cfg.DATASETS.PKU.SPLIT = 2
    data = load_dataset(cfg, "PKUReid")
    parts = read(root, 2)
    assert [item[0] for item in data.query] == [item[0] for item in parts["query"]]
    trained = {item[2] for item in load_training_items(cfg)}
    assert {data.camera_names[item[2]] for item in data.gallery} == trained


def test_other_files_are_left_out_and_said(root):
    folder = root / "pku-reid" / "images"
    (folder / "readme.txt").write_text("x")
    Image.new("RGB", (4, 8)).save(folder / "holiday.png")
    found = read_pku_reid("train", str(root), 0, True)
    assert sum(map(len, found.left_out.values())) == 2
    assert len(found.items) == len(read(root)["train"])


def test_without_folder_or_people_it_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    with pytest.raises(UserError, match="pku-reid"):
        load_dataset(default_config(), "PKUReid")
    folder = tmp_path / "pku-reid" / "images"
    folder.mkdir(parents=True)
    Image.new("RGB", (4, 8)).save(folder / "0001_01_1.png")
    with pytest.raises(UserError, match="1 people: it takes 4"):
        load_dataset(default_config(), "PKUReid")
