"""Shared by all tests: quiet threads, and small synthetic domains drawn once for the whole run."""

import os

import pytest
import torch

torch.set_num_threads(1)

TINY = {
    "TRAIN_IDENTITIES": 12,
    "TEST_IDENTITIES": 8,
    "IMAGES_PER_IDENTITY": 8,
    "CAMERAS": 3,
    "IMAGE_SIZE": [64, 32],
}


@pytest.fixture(scope="session")
def synthetic_root(tmp_path_factory):
    """A cache folder of the synthetic domains, shared by the processes of a parallel run."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if os.environ.get("PYTEST_XDIST_WORKER") else shared
    return shared / "synthetic"


@pytest.fixture
def tiny_cfg(synthetic_root, tmp_path):
    """The quickstart's configuration, cut down to seconds."""
    return make_tiny_cfg(synthetic_root, tmp_path / "run")


def make_tiny_cfg(synthetic_root, output, *pairs, config_file="configs/NPLP/quickstart.yml"):
    """Return the frozen configuration of ``config_file`` at a size of seconds, changed by ``pairs``."""
    import argparse
    from pathlib import Path

    from nplp.engine.setup import load_config

    root = Path(__file__).parents[1]
    return load_config(
        argparse.Namespace(
            config_file=str(root / config_file),
            opts=[*tiny_options(synthetic_root, output), *map(str, pairs)],
        )
    )


def tiny_options(synthetic_root, output):
    """Return the KEY VALUE pairs that make a synthetic configuration a matter of seconds."""
    options = {f"DATASETS.SYNTHETIC.{key}": value for key, value in TINY.items()}
    options.update(
        {
            "DATASETS.SYNTHETIC.ROOT": synthetic_root,
            "OUTPUT_DIR": output,
            "INPUT.SIZE_TRAIN": [32, 16],
            "INPUT.SIZE_TEST": [32, 16],
            "INPUT.PADDING.SIZE": 2,
            "MODEL.HEADS.EMBEDDING_DIM": 32,
            "MODEL.DEVICE": "cpu",
            "SOLVER.IMS_PER_BATCH": 16,
            "NPLP.SOURCE.IMS_PER_BATCH": 16,
            "NPLP.SOURCE.MAX_EPOCH": 2,
            "NPLP.ITERATIONS": 3,
            "NPLP.STARTUP_ITERATIONS": 2,
            "NPLP.ALPHA": 0.08,
        }
    )
    return [text for key, value in options.items() for text in (key, str(value))]
