"""Whole runs on a user's own folder of images: with cameras, without, and with identities for figures."""

import json
import logging
import shutil
from pathlib import Path

import pytest

from nplp.data.datasets import load_dataset
from nplp.engine.pipeline import run
from nplp.engine.setup import prepare_output
from nplp.errors import UserError
from tiny import make_tiny_cfg

SHORT = ("NPLP.ITERATIONS", 1, "NPLP.STARTUP_ITERATIONS", 1, "NPLP.SOURCE.MAX_EPOCH", 1)


@pytest.fixture
def crops(synthetic_root, tmp_path):
    """The station's training images in a folder for each camera, identities only in the names."""
    cfg = make_tiny_cfg(synthetic_root, tmp_path / "unused")
    for path, identity, camera in load_dataset(cfg, "SynthStation", ("train",)).train:
        folder = tmp_path / "crops" / f"door {camera.rpartition('_')[2]} 🎥"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / f"p{identity.rpartition('_')[2]}-{Path(path).name}")
    return tmp_path / "crops"


def own_cfg(synthetic_root, source, *pairs):
    names = ("DATASETS.NAMES", "OwnImages", "DATASETS.OWN.SOURCE", source)
    return make_tiny_cfg(synthetic_root, source.parent / "run", *names, *SHORT, *pairs)


def start(cfg, caplog):
    prepare_output(cfg)
    logging.getLogger("nplp").propagate = True
    with caplog.at_level(logging.INFO):
        return run(cfg, cfg, resume=False)


def test_a_folder_of_cameras_without_identities_is_adapted_to(crops, synthetic_root, caplog):
    assert start(own_cfg(synthetic_root, crops, "DATASETS.TESTS", "()"), caplog) == {}
    line = "OwnImages, train: 96 images, 96 images of nobody known, 3 cameras, from "
    assert f"{line}{str(crops)!r}, cameras by sub-folder" in caplog.text
    (record,) = map(json.loads, (crops.parent / "run" / "pseudo_labels.jsonl").open())
    assert record["clusters"] > 1
    assert "the cameras of the images" not in caplog.text


@pytest.mark.parametrize("treatment", ["none", "mean"])
def test_without_cameras_the_run_goes_on_and_is_evaluated(crops, synthetic_root, caplog, treatment):
    flat = crops.parent / "flat"
    flat.mkdir()
    rows = ["path,identity"]
    for path in sorted(crops.rglob("*.jpg")):
        shutil.copy(path, flat / path.name)
        rows.append(f"flat/{path.name},{path.name.partition('-')[0]}")
    table = crops.parent / "crops.csv"
    table.write_text("\n".join(rows), encoding="utf-8")
    options = ("DATASETS.TESTS", "OwnImages", "TEST.CAMERAS", treatment)
    metrics = start(own_cfg(synthetic_root, table, *options), caplog)
    assert 0 < metrics["direct_transfer"]["mAP"] < 100
    warned = [record for record in caplog.records if "the cameras of the images" in record.getMessage()]
    assert len(warned) == 1, "once a run"
    assert "OwnImages, query: 12 images, 12 people, 1 camera" in caplog.text
    assert "queries have no match" not in caplog.text


def test_labelled_images_are_figures_and_not_trained_with(crops, synthetic_root, caplog):
    options = ("DATASETS.OWN.CAMERA_PATTERN", r"door (?P<camera>\d) .*/(?P<identity>p\d+)-")
    cfg = own_cfg(synthetic_root, crops, "DATASETS.TESTS", "OwnImages", *options)
    metrics = start(cfg, caplog)
    assert 0 < metrics["direct_transfer"]["mAP"] < 100
    assert "one query for each person and camera, the middle one by path" in caplog.text


def test_nobody_known_can_be_no_source_and_no_test_set(crops, synthetic_root, caplog):
    with pytest.raises(UserError, match="OwnImages: no image in .* has an identity"):
        start(own_cfg(synthetic_root, crops, "DATASETS.TESTS", "OwnImages"), caplog)
    cfg = own_cfg(synthetic_root, crops, "DATASETS.TESTS", "()", "NPLP.SOURCE.DATASETS", "OwnImages")
    with pytest.raises(UserError, match="OwnImages: 96 of 96 training images have no identity"):
        start(cfg, caplog)
