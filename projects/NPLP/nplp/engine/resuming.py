"""What a resumed run must have in common with the run it continues, and what it must not repeat.

A setting that differs is applied or refused: the keys below may differ, each because something is done with
it, and every other key is refused by its name.
"""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from fastreid.config import CfgNode

from nplp.config import default_config
from nplp.config.dotted import flat
from nplp.errors import UserError
from nplp.files import read_json_lines, write_atomically

__all__ = [
    "LABELLING",
    "RATES",
    "TRAINING",
    "Difference",
    "check_same_run",
    "differences",
    "drop_lines_from",
    "refuse_without_effect",
]

logger = logging.getLogger(__name__)

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Ten times as fast where PyYAML was built with its C library."""

WITHOUT_A_WORD = (
    "CUDNN_BENCHMARK",
    "DATALOADER.DECODED.DISK_MB",
    "DATALOADER.DECODED.MEMORY_MB",
    "DATALOADER.NUM_WORKERS",
    "DATALOADER.PREFETCH_FACTOR",
    "DATASETS.SYNTHETIC.ROOT",
    "DATASETS.VERIFY",
    # Read before the first step alone.
    "MODEL.BACKBONE.PRETRAIN",
    "MODEL.BACKBONE.PRETRAIN_PATH",
    "MODEL.DEVICE",
    "NPLP.REPORT",
    "OUTPUT_DIR",
    "TEST.IMS_PER_BATCH",
)
"""Keys that say where, how fast and what is shown, not what is computed."""

END = (
    "NPLP.ITERATIONS",
    "NPLP.STARTUP_ITERATIONS",
    "NPLP.STOP.AGREEMENT",
    "NPLP.STOP.MIN_ITERATIONS",
    "SOLVER.MAX_EPOCH",
)
"""Keys that say how long a run is. What is done already must be the same with the new value."""

RATES = (
    "SOLVER.BASE_LR",
    "SOLVER.ETA_MIN_LR",
    "SOLVER.GAMMA",
    "SOLVER.MOMENTUM",
    "SOLVER.NESTEROV",
    "SOLVER.STEPS",
)
"""Keys whose values the optimiser and the scheduler hold; a checkpoint brings back the old ones.

Not among them are those by which the optimiser groups the weights, such as ``SOLVER.HEADS_LR_FACTOR``: what a
checkpoint holds of other groups does not fit.
"""

TRAINING = (
    *RATES,
    "MODEL.LOSSES.CC.TEMPERATURE",
    "MODEL.LOSSES.TRI.MARGIN",
    "MODEL.LOSSES.TRI.REDUCTION",
    "NPLP.EMA_DECAY",
    "NPLP.EVAL_PERIOD",
    "SOLVER.AMP.ENABLED",
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE",
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE",
    "SOLVER.CLIP_GRADIENTS.ENABLED",
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE",
    "TEST.BOOTSTRAP",
    "TEST.BY_CAMERA",
    "TEST.EVAL_PERIOD",
)
"""Keys that are applied from the next step on, if there is one."""

LABELLING = (
    "NPLP.ALPHA",
    "NPLP.ASSESSMENT_DISTANCE",
    "NPLP.BETA",
    "NPLP.CORRECTION_DISTANCE",
    "NPLP.DISSOLVED",
    "NPLP.EMA_LABELS",
    "NPLP.K1",
    "NPLP.K2",
    "NPLP.MIN_SAMPLES",
    "NPLP.NOISY",
    "NPLP.NOISY_FRACTION",
    "NPLP.RECLUSTERED_OUTLIERS",
    "NPLP.RULES.EPSILON",
    "NPLP.RULES.EQUAL_SCORES",
    "NPLP.RULES.EXPLOSION",
    "NPLP.RULES.FEW_CLUSTERS",
    "NPLP.RULES.GIANT_CLUSTER",
    "NPLP.RULES.GIANT_SHARE",
    "NPLP.RULES.MANY_OUTLIERS",
    "NPLP.RULES.NO_CLUSTER",
    "NPLP.RULES.SIZE_CHANGE",
    "NPLP.RULES.SMALL_CLUSTERS",
    "NPLP.SCORE_SAMPLING",
    "NPLP.SCORE_WEIGHT",
    "NPLP.TRACKS",
)
"""Keys that are applied from the next iteration on, if there is one."""

Difference = tuple[Any, Any]
"""What a key is in the checkpoint and what it is now."""


def check_same_run(
    cfg: CfgNode,
    saved: str,
    path: str,
    ignored: Callable[[str], bool] = lambda _: False,
    shown: Callable[[str], str] = lambda key: key,
) -> dict[str, Difference]:
    """Compare a configuration with that of a checkpoint.

    Args:
        cfg: the present configuration.
        saved: the checkpoint's, as ``cfg.dump()`` wrote it.
        path: the checkpoint, for the message.
        ignored: tells of a key whether it means nothing to what the checkpoint holds.
        shown: gives the name under which a user sets a key.

    Returns:
        Keys that differ and may, as ``shown`` names them, with both values; not those that may differ
        without a word.

    Raises:
        UserError: naming every key that differs and may not.
    """
    differing = {
        key: values
        for key, values in differences(cfg, saved).items()
        if key not in WITHOUT_A_WORD and not ignored(key)
    }
    refused = {
        shown(key): values for key, values in differing.items() if key not in (*END, *TRAINING, *LABELLING)
    }
    differing = {shown(key): values for key, values in differing.items()}
    if refused:
        raise UserError(
            f"{path!r} belongs to another configuration ({_described(refused)}): resume with its own, "
            "leave --resume out to start afresh, or set another OUTPUT_DIR"
        )
    if differing:
        logger.warning("Resuming with other settings: %s", _described(differing))
    return differing


def differences(cfg: CfgNode, saved: str) -> dict[str, Difference]:
    """Return the keys that differ, with what they are in ``saved``, as ``cfg.dump()`` wrote it, and now.

    A key that is newer than what was saved had its default then; one that there is no longer is left out.
    """
    known, now, then = (
        flat(yaml.load(text, Loader=_LOADER)) for text in (default_config().dump(), cfg.dump(), saved)
    )
    then = {**known, **then}
    return {key: (then.get(key), now[key]) for key in sorted(now) if then.get(key) != now[key]}


def _described(differing: dict[str, Difference]) -> str:
    return "; ".join(f"{key} {then!r} there, {now!r} now" for key, (then, now) in differing.items())


def refuse_without_effect(differing: dict[str, Difference], keys: tuple[str, ...], reason: str) -> None:
    """Refuse settings that come too late.

    Args:
        differing: what :func:`check_same_run` returned.
        keys: those that would not be applied any more.
        reason: why not.

    Raises:
        UserError: naming those of ``keys`` that differ.
    """
    late = {key: differing[key] for key in differing if key in keys}
    if late:
        raise UserError(
            f"{_described(late)}: that would change nothing, as {reason}: resume with the old value, leave "
            "--resume out to start afresh, or set another OUTPUT_DIR"
        )


def drop_lines_from(path: Path, iteration: int) -> None:
    """Drop the lines of a JSON-lines file from an iteration on, and what a killed run left half-written.

    Args:
        path: each line an object with ``iteration``; nothing happens where there is no such file.
        iteration: the first one that the resumed run writes again.
    """
    if not path.exists():
        return
    kept = [line for line in read_json_lines(path) if line.get("iteration", iteration) < iteration]
    write_atomically(path, "".join(json.dumps(line) + "\n" for line in kept))
