"""What a resumed run must have in common with the run it continues, and what it must not repeat."""

import json
import logging
from pathlib import Path

import yaml
from fastreid.config import CfgNode

from nplp.engine.writing import write_atomically
from nplp.errors import UserError

__all__ = ["check_same_run", "drop_lines_from"]

logger = logging.getLogger(__name__)

ESSENTIAL = (
    "DATALOADER.NUM_INSTANCE",
    "DATALOADER.SAMPLER_TRAIN",
    "DATASETS.",
    "INPUT.",
    "MODEL.BACKBONE.",
    "MODEL.HEADS.",
    "MODEL.LOSSES.NAME",
    "MODEL.META_ARCHITECTURE",
    "NPLP.CAMERA_CENTERING",
    "NPLP.EPOCHS_PER_ITERATION",
    "NPLP.EMA",
    "SEED",
    "SOLVER.IMS_PER_BATCH",
    "SOLVER.OPT",
)
"""Keys, or beginnings of keys, without which a checkpoint does not fit or the run would be another one."""

INCIDENTAL = (
    "MODEL.BACKBONE.PRETRAIN",
    "MODEL.DEVICE",
    "MODEL.WEIGHTS",
    "OUTPUT_DIR",
    "DATALOADER.NUM_WORKERS",
)
"""Keys that may differ without a word."""


def check_same_run(cfg: CfgNode, saved: str, path: str) -> None:
    """Compare a configuration with that of a checkpoint.

    Args:
        cfg: the present configuration.
        saved: the checkpoint's, as ``cfg.dump()`` wrote it.
        path: the checkpoint, for the message.

    Raises:
        UserError: naming every essential key that differs. Others that differ are logged.
    """
    now, then = _flat(yaml.safe_load(cfg.dump())), _flat(yaml.safe_load(saved))
    differing = sorted(
        key
        for key in now.keys() | then.keys()
        if now.get(key) != then.get(key) and not key.startswith(INCIDENTAL)
    )
    described = {key: f"{key} {then.get(key)!r} there, {now.get(key)!r} now" for key in differing}
    essential = [described[key] for key in differing if key.startswith(ESSENTIAL)]
    if essential:
        raise UserError(
            f"{path!r} belongs to another configuration ({'; '.join(essential)}): resume with its own, "
            "leave --resume out to start afresh, or set another OUTPUT_DIR"
        )
    if described:
        logger.warning("Resuming with other settings: %s", "; ".join(described.values()))


def _flat(node: object, prefix: str = "") -> dict[str, object]:
    """Return ``{dotted key: value}`` of nested dictionaries."""
    if not isinstance(node, dict):
        return {prefix: node}
    flat: dict[str, object] = {}
    for key, value in node.items():
        flat.update(_flat(value, f"{prefix}.{key}" if prefix else str(key)))
    return flat


def drop_lines_from(path: Path, iteration: int) -> None:
    """Drop the lines of a JSON-lines file from an iteration on, and what a killed run left half-written.

    Args:
        path: each line an object with ``iteration``; nothing happens where there is no such file.
        iteration: the first one that the resumed run writes again.
    """
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            content = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(content, dict) and content.get("iteration", iteration) < iteration:
            kept.append(line + "\n")
    write_atomically(path, "".join(kept))
