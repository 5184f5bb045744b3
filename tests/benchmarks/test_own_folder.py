"""The benchmark of a folder without identities, at a size of seconds."""

import json

import pytest
import torch

import own_folder
from adapt_cases import SHORT
from nplp.config import source_config
from nplp.engine.supervised import SupervisedTrainer
from tiny import TINY, make_tiny_cfg


@pytest.fixture
def words(synthetic_root, tmp_path):
    """The words of a command line, of a source model that was not trained."""
    cfg = source_config(make_tiny_cfg(synthetic_root, tmp_path))
    torch.save({"model": SupervisedTrainer.build_model(cfg).state_dict()}, tmp_path / "model_final.pth")
    (tmp_path / "config.yaml").write_text(cfg.dump())
    sizes = ("--identities", TINY["TRAIN_IDENTITIES"], "--images-per-identity", TINY["IMAGES_PER_IDENTITY"])
    sizes += ("--cameras", TINY["CAMERAS"], "--size", *TINY["IMAGE_SIZE"], "--cache", synthetic_root)
    places = ("--folder", tmp_path / "logs", "--out", tmp_path / "own_folder.json")
    return [str(word) for word in ("--weights", tmp_path / "model_final.pth", *sizes, *places)]


def test_it_adapts_without_identities_and_measures_with_those_kept_back(words, tmp_path, capsys):
    own_folder.main([*words, "--", *SHORT, "NPLP.ITERATIONS", "1"])
    crops = tmp_path / "logs" / "station_crops"
    names = [path.name for path in crops.rglob("*.*")]
    assert len(names) == len(set(names)) == TINY["TRAIN_IDENTITIES"] * TINY["IMAGES_PER_IDENTITY"]
    assert all(path.stem.isdigit() for path in crops.rglob("*.*"))
    assert len(list(crops.iterdir())) == TINY["CAMERAS"]
    found = json.loads((tmp_path / "own_folder.json").read_text())["station"]
    assert list(found["figures"]) == ["direct transfer", "adapted, seed 0"]
    for row in found["figures"].values():
        low, high = row["mAP interval"]
        assert 0 < low <= row["mAP"] <= high <= 100
        assert row["groups"]["clusters"] > 0
    results = json.loads((tmp_path / "logs" / "station_seed0" / "results.json").read_text())
    assert "final" not in results
    assert "adapted, seed 0" in capsys.readouterr().out
