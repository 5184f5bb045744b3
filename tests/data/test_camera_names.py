"""A camera has one name in the training set and in query and gallery, however the data set writes cameras."""

import shutil
from pathlib import Path

import pytest
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.data.datasets.bases import ImageDataset

from nplp.data.datasets import ReidData, load_dataset

IMAGES = ("0001_c1s1_0.jpg", "0001_c3s1_0.jpg", "0002_c1s1_0.jpg", "0002_c3s1_0.jpg")
FOLDERS = ("bounding_box_train", "query", "bounding_box_test")


def names_of(data: ReidData) -> tuple[set[str], set[str]]:
    """Return what the cameras of training and of testing are called."""
    training = {camera for _, _, camera in data.train}
    return training, {data.camera_name(camera) for _, _, camera in data.query + data.gallery}


@pytest.fixture
def image(synthetic_root, tiny_cfg):
    """The path of a picture."""
    return load_dataset(tiny_cfg, "SynthStation", ("query",)).query[0][0]


@pytest.mark.parametrize(
    ("name", "folder", "expected"),
    [
        ("Market1501", "Market-1501-v15.09.15", {"market1501_0", "market1501_2"}),
        ("DukeMTMC", "DukeMTMC-reID", {"dukemtmc_0", "dukemtmc_2"}),
    ],
)
@pytest.mark.parametrize("subsets", [("train", "query", "gallery"), ("query", "gallery")])
def test_in_markets_layout(tiny_cfg, image, tmp_path, monkeypatch, name, folder, expected, subsets):
    for part in FOLDERS:
        (tmp_path / folder / part).mkdir(parents=True)
        for file in IMAGES:
            shutil.copy(image, tmp_path / folder / part / file)
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    training, testing = names_of(load_dataset(tiny_cfg, name, subsets))
    assert testing == expected
    assert training == (expected if "train" in subsets else set())


@pytest.mark.parametrize("version", ["train", "mask_train_v2"])
def test_of_msmt17(tiny_cfg, image, tmp_path, monkeypatch, version):
    folder = tmp_path / ("MSMT17_V1" if version == "train" else "MSMT17_V2")
    for part in (version, version.replace("train", "test")):
        (folder / part / "0000").mkdir(parents=True)
        for camera in (1, 12):
            shutil.copy(image, folder / part / "0000" / f"0000_000_{camera:02d}_0303morning_0_0.jpg")
    lines = "".join(f"0000/0000_000_{camera:02d}_0303morning_0_0.jpg 0\n" for camera in (1, 12))
    for subset in ("train", "query", "gallery"):
        (folder / f"list_{subset}.txt").write_text(lines)
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    training, testing = names_of(load_dataset(tiny_cfg, "MSMT17"))
    assert training == testing == {"msmt17_0", "msmt17_11"}


@pytest.mark.parametrize("name", ["SynthStation", "SynthPlaza"])
def test_of_the_synthetic_domains(tiny_cfg, name):
    training, testing = names_of(load_dataset(tiny_cfg, name))
    assert training == testing == {f"{name.lower()}_{camera}" for camera in range(3)}


@pytest.mark.parametrize(
    ("training", "testing", "expected"),
    [
        # The toolbox's classes write text for training and numbers for testing.
        (["cuhk_0", "cuhk_1"], [0, 1], ["cuhk_0", "cuhk_1"]),
        ([4, 7], [7, 4], ["Own_4", "Own_7"]),
        (["door", "gate"], ["gate", "door"], ["door", "gate"]),
        (["a_1", "b_1"], ["b_1", "a_1"], ["a_1", "b_1"]),
        # A camera that training has not is called by its number all the same.
        (["cuhk_0"], [0, 5], ["cuhk_0", "cuhk_5"]),
        # Two beginnings: which one a number belongs to cannot be told.
        (["a_0", "b_1"], [0, 1], ["Own_0", "Own_1"]),
        ([], [0, "door"], ["Own_0", "door"]),
    ],
)
def test_of_anyones_own_classes(tiny_cfg, monkeypatch, training, testing, expected):
    monkeypatch.setattr(DATASET_REGISTRY, "_obj_map", dict(DATASET_REGISTRY._obj_map))

    class Own(ImageDataset):
        def __init__(self, root, **_):
            train = [(f"t{number}.jpg", number, camera) for number, camera in enumerate(training)]
            query, gallery = ([(f"{part}{c}.jpg", 1, c) for c in testing] for part in "qg")
            super().__init__(train, query, gallery)

    DATASET_REGISTRY.register(Own)
    data = load_dataset(tiny_cfg, "Own", ("query", "gallery"))
    found = {Path(path).stem[1:]: data.camera_name(camera) for path, _, camera in data.query + data.gallery}
    assert sorted(found.values()) == expected
    if len(training) == len(testing) and expected[0] != "Own_0":
        assert {camera for _, _, camera in load_dataset(tiny_cfg, "Own", ("train",)).train} == set(expected)


def test_a_set_made_by_hand_names_cameras_by_its_own_name():
    assert ReidData("set", [], [], []).camera_name(3) == "set_3"
