"""A configuration of the built-in task that takes seconds."""

import argparse
from pathlib import Path

from fastreid.config import CfgNode

from nplp.engine.setup import load_config

TINY = {
    "TRAIN_IDENTITIES": 12,
    "TEST_IDENTITIES": 8,
    "IMAGES_PER_IDENTITY": 8,
    "CAMERAS": 3,
    "IMAGE_SIZE": [64, 32],
}


def make_tiny_cfg(
    synthetic_root: Path, output: Path, *pairs: object, config_file: str = "configs/NPLP/quickstart.yml"
) -> CfgNode:
    """Return the frozen configuration of ``config_file`` at a size of seconds, changed by ``pairs``."""
    root = Path(__file__).parents[1]
    return load_config(
        argparse.Namespace(
            config_file=str(root / config_file),
            opts=[*tiny_options(synthetic_root, output), *map(str, pairs)],
        )
    )


def tiny_options(synthetic_root: Path, output: Path) -> list[str]:
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
            "NPLP.REPORT": False,
        }
    )
    return [text for key, value in options.items() for text in (key, str(value))]
