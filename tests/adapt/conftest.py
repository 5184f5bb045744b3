"""A source model, and a folder of crops that nobody has labelled."""

import shutil
from pathlib import Path

import pytest
import torch

from adapt_cases import SHORT
from nplp.adapt.request import Request
from nplp.adapt.run import Products, adapt
from nplp.config import source_config
from nplp.data.datasets import load_dataset
from nplp.engine.supervised import SupervisedTrainer
from tiny import make_tiny_cfg


@pytest.fixture(scope="session")
def weights(synthetic_root, tmp_path_factory):
    """The file of an untrained model, the same each time, beside its configuration."""
    folder = tmp_path_factory.mktemp("source")
    # A few images fall into clusters by some drawn weights, and by others into none.
    torch.manual_seed(0)
    cfg = source_config(make_tiny_cfg(synthetic_root, folder))
    torch.save({"model": SupervisedTrainer.build_model(cfg).state_dict()}, folder / "model_final.pth")
    (folder / "config.yaml").write_text(cfg.dump())
    return folder / "model_final.pth"


@pytest.fixture(scope="session")
def crops(synthetic_root, tmp_path_factory):
    """The station's training images in a folder for each camera; their names tell nothing."""
    folder = tmp_path_factory.mktemp("crops")
    cfg = make_tiny_cfg(synthetic_root, tmp_path_factory.mktemp("unused"))
    for number, (path, _, camera) in enumerate(load_dataset(cfg, "SynthStation", ("train",)).train):
        place = folder / f"gate {camera[-1]}"
        place.mkdir(exist_ok=True)
        shutil.copy(path, place / f"{number:04d}{Path(path).suffix}")
    return folder


@pytest.fixture(scope="session")
def adapted(crops, weights, tmp_path_factory):
    """The folder of a finished adaptation."""
    folder = tmp_path_factory.mktemp("adapted") / "run"
    assert adapt(Request(str(crops), str(weights), str(folder), options=SHORT), Products()) == {}
    return folder
