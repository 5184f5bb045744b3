"""Whole runs on a user's own images: incomplete sets, unlabelled images, other formats and many cameras."""

import json
import logging
import shutil
from pathlib import Path

import pytest
from PIL import Image

from nplp.data.datasets import load_dataset
from nplp.engine.pipeline import evaluate_only, run
from nplp.engine.setup import prepare_output
from nplp.errors import UserError
from tiny import make_tiny_cfg

FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
SHORT = ("NPLP.ITERATIONS", 2, "NPLP.STARTUP_ITERATIONS", 1, "NPLP.SOURCE.MAX_EPOCH", 1)


@pytest.fixture
def folders(synthetic_root, tmp_path, monkeypatch):
    """A labelled source without a test set, an unlabelled target of nine cameras, and a test set elsewhere.

    The target's people are unknown; its images are of two formats, in a folder for each camera.
    """
    cfg = make_tiny_cfg(synthetic_root, tmp_path / "unused")
    source = tmp_path / "training" / "DukeMTMC-reID" / FOLDERS["train"]
    source.mkdir(parents=True)
    for path, identity, camera in load_dataset(cfg, "SynthPlaza", ("train",)).train:
        person, door = (int(name.rpartition("_")[2]) for name in (identity, camera))
        shutil.copy(path, source / f"{person + 20000}_c{door + 9}_{Path(path).name}")
    target = tmp_path / "training" / "Market-1501-v15.09.15" / FOLDERS["train"]
    station = load_dataset(cfg, "SynthStation")
    for number, (path, _, camera) in enumerate(station.train):
        door = 3 * int(camera.rpartition("_")[2]) + number % 3 + 1
        folder = target / f"camera {door}"
        folder.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            image.save(folder / f"-1_c{door} {number}{'.png' if number % 2 else '.JPEG'}")
    (target / "Thumbs.db").touch()
    for subset in ("query", "gallery"):
        folder = tmp_path / "testing" / "Market-1501-v15.09.15" / FOLDERS[subset]
        folder.mkdir(parents=True)
        for path, identity, camera in getattr(station, subset):
            shutil.copy(path, folder / f"{identity + 1500}_c{camera + 7}_{Path(path).name}")
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "training"))
    return tmp_path


def own_cfg(synthetic_root, output, *pairs):
    names = ("DATASETS.NAMES", "Market1501", "NPLP.SOURCE.DATASETS", "DukeMTMC")
    return make_tiny_cfg(synthetic_root, output, *names, *SHORT, *pairs)


def test_unlabelled_images_are_adapted_to_here_and_evaluated_elsewhere(
    folders, synthetic_root, monkeypatch, caplog
):
    cfg = own_cfg(synthetic_root, folders / "run", "DATASETS.TESTS", "()", "NPLP.REPORT", True)
    prepare_output(cfg)
    logging.getLogger("nplp").propagate = True
    with caplog.at_level(logging.INFO):
        assert run(cfg, cfg, resume=False) == {}
    assert "Market1501, train: 96 images, 96 images of nobody known, 9 cameras, from " in caplog.text
    assert "1 file left out: 1 of no image format (first 'Thumbs.db')" in caplog.text
    assert "DukeMTMC, train: 96 images, 12 people, 3 cameras" in caplog.text
    assert "DATASETS.TESTS names no data set: nothing is evaluated" in caplog.messages
    assert "could not be written" not in caplog.text
    lines = [json.loads(line) for line in (folders / "run" / "pseudo_labels.jsonl").open()]
    assert all(line["clusters"] > 1 for line in lines)
    assert "final" not in json.loads((folders / "run" / "results.json").read_text())
    monkeypatch.setenv("FASTREID_DATASETS", str(folders / "testing"))
    weights = ("DATASETS.TESTS", "Market1501", "MODEL.WEIGHTS", folders / "run" / "model_final.pth")
    metrics = evaluate_only(own_cfg(synthetic_root, folders / "run", *weights))
    station = ("DATASETS.TESTS", "SynthStation", *weights[2:])
    assert metrics == evaluate_only(own_cfg(synthetic_root, folders / "run", *station))


def test_the_direct_transfer_alone_needs_no_training_images_of_the_target(
    folders, synthetic_root, monkeypatch
):
    root = folders / "both"
    root.mkdir()
    (root / "DukeMTMC-reID").symlink_to(folders / "training" / "DukeMTMC-reID")
    (root / "Market-1501-v15.09.15").symlink_to(folders / "testing" / "Market-1501-v15.09.15")
    monkeypatch.setenv("FASTREID_DATASETS", str(root))
    cfg = own_cfg(synthetic_root, folders / "run", "DATASETS.TESTS", "Market1501", "NPLP.ITERATIONS", 0)
    prepare_output(cfg)
    assert set(run(cfg, cfg, resume=False)) == {"direct_transfer"}
    assert run(cfg, cfg, resume=True) == run(cfg, cfg, resume=True)
    with pytest.raises(UserError, match="bounding_box_train', which does not exist"):
        run(own_cfg(synthetic_root, folders / "run", "DATASETS.TESTS", "Market1501"), cfg, resume=False)


def test_unlabelled_images_are_no_source(folders, synthetic_root):
    cfg = own_cfg(
        synthetic_root, folders / "run", "DATASETS.TESTS", "()", "NPLP.SOURCE.DATASETS", "Market1501"
    )
    prepare_output(cfg)
    with pytest.raises(UserError, match="Market1501: 96 of 96 training images have no identity"):
        run(cfg, cfg, resume=False)


def test_evaluation_without_a_test_set_is_refused(folders, synthetic_root):
    with pytest.raises(UserError, match="DATASETS.TESTS names no data set to evaluate on"):
        evaluate_only(own_cfg(synthetic_root, folders / "run", "DATASETS.TESTS", "()"))
