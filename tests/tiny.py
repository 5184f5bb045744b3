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

NARROW_BACKBONE = {"MODEL.BACKBONE.NAME": "build_narrow_resnet_backbone", "MODEL.BACKBONE.FEAT_DIM": 64}
"""In place of quickstart's ResNet-18: a run takes a fifth of the time."""
QUICKSTART = "configs/NPLP/quickstart.yml"


def make_tiny_cfg(
    synthetic_root: Path, output: Path, *pairs: object, config_file: str = QUICKSTART, narrow: bool = True
) -> CfgNode:
    """Return the frozen configuration of ``config_file`` at a size of seconds, changed by ``pairs``.

    Only quickstart's backbone is replaced; others are there to be tested.
    """
    root = Path(__file__).parents[1]
    options = tiny_options(synthetic_root, output, narrow=narrow and config_file == QUICKSTART)
    return load_config(
        argparse.Namespace(
            config_file=str(root / config_file),
            opts=[*options, *map(str, pairs)],
        )
    )


def tiny_options(synthetic_root: Path, output: Path, narrow: bool = True) -> list[str]:
    """Return the KEY VALUE pairs that make a synthetic configuration a matter of seconds.

    Without ``narrow`` the configuration's own backbone stays, for tests that are about it.
    """
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
    if narrow:
        options.update(NARROW_BACKBONE)
    return [text for key, value in options.items() for text in (key, str(value))]
