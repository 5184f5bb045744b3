"""What values the configuration's keys may have."""

import torch
from fastreid.config import CfgNode

from nplp.config.choices import (
    AMP_TYPES,
    BY_SHARES,
    CAMERA_TREATMENTS,
    HEAD_FEATURES,
    HEAD_FUSIONS,
    HEAD_POOLINGS,
    SAMPLERS,
    TRACK_USES,
)
from nplp.config.ignored import refuse_ignored
from nplp.config.method_sections import METHOD_SECTIONS
from nplp.config.own_images import compile_camera_pattern, parse_columns
from nplp.errors import UserError
from nplp.losses import LOSSES
from nplp.losses.registry import WEIGHTS
from nplp.metric_names import RERANKINGS, TEST_DISTANCES
from nplp.weights.zoo import ZOO_PREFIX

__all__ = ["validate_config", "validate_device"]

DISTANCES = ("jaccard", "camera_jaccard", "euclidean")
NOISY_USES = ("recluster", "drop", "keep")
SCHEDULES = ("MultiStepLR", "CosineAnnealingLR")
ON_DEVICE = ("PADDING", "FLIP", "REA")
"""Sections of INPUT that can be followed on the device."""

LEAST_PIXELS = 16
"""The backbones' feature maps are a sixteenth as high and wide as their images."""

RULE_ACTIONS = {
    "NO_CLUSTER": ("keep", "stop"),
    "GIANT_CLUSTER": ("lower", "off", "stop"),
    "EQUAL_SCORES": ("skip", "order"),
    "FEW_CLUSTERS": ("repeat", "stop"),
    "SMALL_CLUSTERS": ("repeat", "drop"),
    "MANY_OUTLIERS": ("report", "stop"),
    "EPSILON": ("report", "stop"),
    "SIZE_CHANGE": ("report", "stop"),
    "EXPLOSION": ("report", "stop"),
}


def validate_config(cfg: CfgNode) -> None:
    """Check the values of NPLP's keys, and that no setting of the toolbox's is taken and not followed.

    Raises:
        UserError: naming the first key whose value is out of its range, the range and the value.
    """
    nplp, heads, drawn = cfg.NPLP, cfg.MODEL.HEADS, cfg.DATASETS.SYNTHETIC_TRACKS
    sampler = cfg.DATALOADER.SAMPLER_TRAIN
    rules = [
        ("NPLP.METHOD", nplp.METHOD, nplp.METHOD in METHOD_SECTIONS, f"one of {tuple(METHOD_SECTIONS)}"),
        ("NPLP.ITERATIONS", nplp.ITERATIONS, nplp.ITERATIONS >= 0, "at least 0"),
        ("NPLP.STARTUP_ITERATIONS", nplp.STARTUP_ITERATIONS, nplp.STARTUP_ITERATIONS >= 0, "at least 0"),
        (
            "NPLP.EPOCHS_PER_ITERATION",
            nplp.EPOCHS_PER_ITERATION,
            nplp.EPOCHS_PER_ITERATION >= 1,
            "at least 1",
        ),
        ("NPLP.STEPS_PER_EPOCH", nplp.STEPS_PER_EPOCH, nplp.STEPS_PER_EPOCH >= 0, "at least 0"),
        ("NPLP.EVAL_PERIOD", nplp.EVAL_PERIOD, nplp.EVAL_PERIOD >= 0, "at least 0"),
        ("NPLP.ALPHA", nplp.ALPHA, 0 <= nplp.ALPHA <= 1, "in (0, 1], or auto"),
        ("NPLP.BETA", nplp.BETA, 0 < nplp.BETA <= 1, "in (0, 1]"),
        ("NPLP.NOISY_FRACTION", nplp.NOISY_FRACTION, 0 < nplp.NOISY_FRACTION <= 1, "in (0, 1]"),
        ("NPLP.MIN_SAMPLES", nplp.MIN_SAMPLES, nplp.MIN_SAMPLES >= 1, "at least 1"),
        ("NPLP.DISTANCE", nplp.DISTANCE, nplp.DISTANCE in DISTANCES, f"one of {DISTANCES}"),
        (
            "NPLP.ASSESSMENT_DISTANCE",
            nplp.ASSESSMENT_DISTANCE,
            nplp.ASSESSMENT_DISTANCE in ("", *DISTANCES),
            f"empty or one of {DISTANCES}",
        ),
        (
            "NPLP.CORRECTION_DISTANCE",
            nplp.CORRECTION_DISTANCE,
            nplp.CORRECTION_DISTANCE in ("", *DISTANCES),
            f"empty or one of {DISTANCES}",
        ),
        ("NPLP.K1", nplp.K1, nplp.K1 >= 0, "at least 1, or 0 to choose it"),
        ("NPLP.K2", nplp.K2, not nplp.K1 or 1 <= nplp.K2 <= nplp.K1, "between 1 and NPLP.K1"),
        ("NPLP.K1_INTRA", nplp.K1_INTRA, nplp.K1_INTRA >= 1, "at least 1"),
        ("NPLP.K1_INTER", nplp.K1_INTER, nplp.K1_INTER >= 1, "at least 1"),
        ("NPLP.K2_INTRA", nplp.K2_INTRA, nplp.K2_INTRA >= 1, "at least 1"),
        ("NPLP.K2_INTER", nplp.K2_INTER, nplp.K2_INTER >= 0, "at least 0"),
        (
            "NPLP.CAMERA_SCALING",
            nplp.CAMERA_SCALING,
            nplp.CAMERA_CENTERING or not nplp.CAMERA_SCALING,
            "False unless NPLP.CAMERA_CENTERING is True",
        ),
        (
            "NPLP.EPSILON_UPDATE",
            nplp.EPSILON_UPDATE,
            nplp.EPSILON_UPDATE in ("iteration", "first"),
            "'iteration' or 'first'",
        ),
        (
            "NPLP.EPSILON_UPDATE",
            nplp.EPSILON_UPDATE,
            nplp.CORRECTION_DISTANCE in ("", nplp.DISTANCE) or nplp.EPSILON_UPDATE == "iteration",
            f"'iteration' with NPLP.CORRECTION_DISTANCE {nplp.CORRECTION_DISTANCE!r}, of a radius of its own",
        ),
        ("NPLP.NOISY", nplp.NOISY, nplp.NOISY in NOISY_USES, f"one of {NOISY_USES}"),
        *(
            (
                f"NPLP.{key}",
                nplp[key],
                nplp.METHOD == "nplp" or not nplp[key],
                f"False with NPLP.METHOD {nplp.METHOD!r}, which has no scores",
            )
            for key in ("SCORE_WEIGHT", "SCORE_SAMPLING")
        ),
        (
            "NPLP.SCORE_SAMPLING",
            nplp.SCORE_SAMPLING,
            sampler in BY_SHARES or not nplp.SCORE_SAMPLING,
            f"False with DATALOADER.SAMPLER_TRAIN {sampler!r}, which draws no clusters by shares",
        ),
        ("NPLP.DISSOLVED", nplp.DISSOLVED, nplp.DISSOLVED in ("drop", "keep"), "'drop' or 'keep'"),
        (
            "NPLP.RECLUSTERED_OUTLIERS",
            nplp.RECLUSTERED_OUTLIERS,
            nplp.RECLUSTERED_OUTLIERS in ("drop", "rejoin"),
            "'drop' or 'rejoin'",
        ),
        *(
            (f"NPLP.RULES.{rule}", nplp.RULES[rule], nplp.RULES[rule] in actions, f"one of {actions}")
            for rule, actions in RULE_ACTIONS.items()
        ),
        (
            "NPLP.RULES.GIANT_SHARE",
            nplp.RULES.GIANT_SHARE,
            0 < nplp.RULES.GIANT_SHARE <= 1,
            "in (0, 1]",
        ),
        ("NPLP.TRACKS", nplp.TRACKS, nplp.TRACKS in TRACK_USES, f"one of {TRACK_USES}"),
        ("DATASETS.SYNTHETIC_TRACKS.LENGTH", drawn.LENGTH, drawn.LENGTH >= 0, "at least 0"),
        ("DATASETS.SYNTHETIC_TRACKS.WRONG", drawn.WRONG, 0 <= drawn.WRONG <= 1, "in [0, 1]"),
        ("NPLP.EMA_LABELS", nplp.EMA_LABELS, nplp.EMA or not nplp.EMA_LABELS, "False where NPLP.EMA is"),
        ("NPLP.STOP.AGREEMENT", nplp.STOP.AGREEMENT, 0 <= nplp.STOP.AGREEMENT <= 1, "in [0, 1]"),
        (
            "NPLP.STOP.MIN_ITERATIONS",
            nplp.STOP.MIN_ITERATIONS,
            nplp.STOP.MIN_ITERATIONS >= 1,
            "at least 1",
        ),
        ("NPLP.EMA_DECAY", nplp.EMA_DECAY, 0 <= nplp.EMA_DECAY < 1, "in [0, 1)"),
        ("NPLP.SOURCE.MAX_EPOCH", nplp.SOURCE.MAX_EPOCH, nplp.SOURCE.MAX_EPOCH >= 1, "at least 1"),
        ("MODEL.HEADS.PAP", heads.PAP, heads.PAP >= 1, "at least 1"),
        ("MODEL.HEADS.POOLING", heads.POOLING, heads.POOLING in HEAD_POOLINGS, f"one of {HEAD_POOLINGS}"),
        ("MODEL.HEADS.OUTPUT", heads.OUTPUT, heads.OUTPUT in HEAD_FEATURES, f"one of {HEAD_FEATURES}"),
        ("MODEL.HEADS.FUSION", heads.FUSION, heads.FUSION in HEAD_FUSIONS, f"one of {HEAD_FUSIONS}"),
        *_norm_rules(cfg),
        *_process_rules(cfg),
        *_general_rules(cfg),
        *_on_device_rules(cfg),
        *_evaluation_rules(cfg),
        ("DATALOADER.SAMPLER_TRAIN", sampler, sampler in SAMPLERS, f"one of {SAMPLERS}"),
    ]
    for key, value, holds, rule in rules:
        if not holds:
            raise UserError(f"{key} must be {rule}, got {value!r}")
    for loss in LOSSES.values():
        loss.build(cfg.MODEL.LOSSES)
    unweighed = [
        name for name in cfg.MODEL.LOSSES.NAME if name in LOSSES and WEIGHTS not in LOSSES[name].takes
    ]
    for key in ("CAMERA_ENTROPY_WEIGHT", "SCORE_WEIGHT"):
        if nplp[key] and unweighed:
            raise UserError(
                f"NPLP.{key} needs losses that take weights, got {unweighed[0]!r} in MODEL.LOSSES.NAME: "
                "register it with takes=('weights',), or set the key to False"
            )
    _validate_batches(cfg)
    _validate_own_images(cfg)
    validate_device(cfg)
    if cfg.MODEL.BACKBONE.PRETRAIN_PATH.startswith(ZOO_PREFIX):
        raise UserError(
            f"MODEL.BACKBONE.PRETRAIN_PATH takes the weights of a backbone alone, got the whole model "
            f"{cfg.MODEL.BACKBONE.PRETRAIN_PATH!r}: give it as NPLP.SOURCE.WEIGHTS or MODEL.WEIGHTS"
        )
    refuse_ignored(cfg)


def _norm_rules(cfg: CfgNode) -> list[tuple[str, object, bool, str]]:
    """Return key, value, whether it holds and the rule, of the keys about batch norms."""
    chunk, batch, norm = cfg.MODEL.NORM_CHUNK, cfg.SOLVER.IMS_PER_BATCH, cfg.NPLP.NORM
    return [
        (
            "MODEL.NORM_CHUNK",
            chunk,
            chunk == 0 or (chunk >= 2 and batch % chunk == 0),
            f"0 or a divisor of SOLVER.IMS_PER_BATCH ({batch}) from 2 on",
        ),
        (
            "MODEL.NORM_CAMERAS",
            cfg.MODEL.NORM_CAMERAS,
            not (cfg.MODEL.NORM_CAMERAS and chunk),
            "False with MODEL.NORM_CHUNK",
        ),
        (
            "NPLP.NORM.REFRESH",
            norm.REFRESH,
            not norm.REFRESH or cfg.MODEL.BACKBONE.NORM != "syncBN",
            "False with MODEL.BACKBONE.NORM syncBN",
        ),
        ("NPLP.NORM.IMAGES", norm.IMAGES, norm.IMAGES == 0 or norm.IMAGES >= 4, "0 or at least 4"),
        ("NPLP.NORM.BATCH", norm.BATCH, norm.BATCH >= 4, "at least 4"),
    ]


def _process_rules(cfg: CfgNode) -> list[tuple[str, object, bool, str]]:
    """Return key, value, whether it holds and the rule, of the keys about several processes."""
    chunk, parts = cfg.MODEL.NORM_CHUNK, cfg.SOLVER.ACCUMULATE
    source, batch = cfg.NPLP.SOURCE.NORM_CHUNK, cfg.NPLP.SOURCE.IMS_PER_BATCH
    return [
        (
            "MODEL.NORM_CHUNK",
            chunk,
            chunk > 0 or not cfg.NPLP.SAME_AT_ANY_WORLD_SIZE,
            "above 0 with NPLP.SAME_AT_ANY_WORLD_SIZE, at most what each process takes of a batch",
        ),
        (
            "NPLP.SOURCE.NORM_CHUNK",
            source,
            source == 0 or (source >= 2 and batch % source == 0),
            f"0 or a divisor of NPLP.SOURCE.IMS_PER_BATCH ({batch}) from 2 on",
        ),
        ("SOLVER.ACCUMULATE", parts, parts >= 1, "at least 1"),
    ]


def _general_rules(cfg: CfgNode) -> list[tuple[str, object, bool, str]]:
    """Return key, value, whether it holds and the rule, of the toolbox's keys that fail late or obscurely."""
    inputs = [(key, tuple(cfg.INPUT[key])) for key in ("SIZE_TRAIN", "SIZE_TEST")]
    precision = cfg.SOLVER.AMP.DTYPE
    rates = [("SOLVER.BASE_LR", cfg.SOLVER.BASE_LR), ("NPLP.SOURCE.BASE_LR", cfg.NPLP.SOURCE.BASE_LR)]
    return [
        ("SEED", cfg.SEED, cfg.SEED >= 0, "at least 0"),
        ("SOLVER.OPT", cfg.SOLVER.OPT, hasattr(torch.optim, cfg.SOLVER.OPT), "a class of torch.optim"),
        ("SOLVER.SCHED", cfg.SOLVER.SCHED, cfg.SOLVER.SCHED in SCHEDULES, f"one of {SCHEDULES}"),
        ("TEST.METRIC", cfg.TEST.METRIC, cfg.TEST.METRIC in TEST_DISTANCES, f"one of {TEST_DISTANCES}"),
        (
            "TEST.CAMERAS",
            cfg.TEST.CAMERAS,
            cfg.TEST.CAMERAS in CAMERA_TREATMENTS,
            f"one of {CAMERA_TREATMENTS}",
        ),
        ("TEST.IMS_PER_BATCH", cfg.TEST.IMS_PER_BATCH, cfg.TEST.IMS_PER_BATCH >= 1, "at least 1"),
        *(
            (f"DATALOADER.DECODED.{name}", value, value >= 0, "at least 0")
            for name, value in cfg.DATALOADER.DECODED.items()
        ),
        (
            "DATALOADER.NUM_WORKERS",
            cfg.DATALOADER.NUM_WORKERS,
            cfg.DATALOADER.NUM_WORKERS >= 0,
            "at least 0",
        ),
        (
            "DATALOADER.PREFETCH_FACTOR",
            cfg.DATALOADER.PREFETCH_FACTOR,
            cfg.DATALOADER.PREFETCH_FACTOR >= 1,
            "at least 1",
        ),
        ("SOLVER.AMP.DTYPE", precision, precision in AMP_TYPES, f"one of {AMP_TYPES}"),
        (
            "SOLVER.AMP.DTYPE",
            precision,
            precision != "float16" or cfg.MODEL.DEVICE != "cpu",
            "'bfloat16' or 'auto' on the CPU",
        ),
        (
            "MODEL.COMPILE",
            cfg.MODEL.COMPILE,
            not (cfg.MODEL.COMPILE and cfg.MODEL.NORM_CAMERAS),
            "False with MODEL.NORM_CAMERAS",
        ),
        *((key, rate, rate > 0, "above 0") for key, rate in rates),
        *(
            (
                f"INPUT.{key}",
                size,
                len(size) == 2 and min(size) >= LEAST_PIXELS,
                "height and width from 16 on",
            )
            for key, size in inputs
        ),
    ]


def _on_device_rules(cfg: CfgNode) -> list[tuple[str, object, bool, str]]:
    """Return key, value, whether it holds and the rule, of what INPUT.ON_DEVICE needs."""
    if not cfg.INPUT.ON_DEVICE:
        return []
    switches = {
        name: section.ENABLED
        for name, section in cfg.INPUT.items()
        if isinstance(section, CfgNode) and "ENABLED" in section
    }
    padding, erasing = cfg.INPUT.PADDING, cfg.INPUT.REA
    return [
        *(
            (
                f"INPUT.{name}.ENABLED",
                on,
                name in ON_DEVICE or not on,
                "False with INPUT.ON_DEVICE, which pads, crops the padded, flips and erases alone",
            )
            for name, on in switches.items()
        ),
        (
            "INPUT.PADDING.MODE",
            padding.MODE,
            padding.MODE == "constant" or not padding.ENABLED,
            "'constant' with INPUT.ON_DEVICE",
        ),
        (
            "INPUT.REA.VALUE",
            erasing.VALUE,
            len(erasing.VALUE) in (1, 3) or not erasing.ENABLED,
            "one number or three with INPUT.ON_DEVICE",
        ),
    ]


def _evaluation_rules(cfg: CfgNode) -> list[tuple[str, object, bool, str]]:
    """Return key, value, whether it holds and the rule, of the keys about what is made of a ranking."""
    rerank, form, resamples = cfg.TEST.RERANK, cfg.TEST.RERANK_FORM, cfg.TEST.BOOTSTRAP
    return [
        ("TEST.RERANK.K1", rerank.K1, rerank.K1 >= 1, "at least 1"),
        ("TEST.RERANK.K2", rerank.K2, rerank.K2 >= 1, "at least 1"),
        ("TEST.RERANK.LAMBDA", rerank.LAMBDA, 0 <= rerank.LAMBDA <= 1, "in [0, 1]"),
        ("TEST.RERANK_FORM", form, form in RERANKINGS, f"one of {RERANKINGS}"),
        ("TEST.BOOTSTRAP", resamples, resamples >= 0, "0 or the number of resamples"),
    ]


def _validate_batches(cfg: CfgNode) -> None:
    batches = (
        (
            "SOLVER.IMS_PER_BATCH",
            cfg.SOLVER.IMS_PER_BATCH,
            "DATALOADER.NUM_INSTANCE",
            cfg.DATALOADER.NUM_INSTANCE,
        ),
        (
            "NPLP.SOURCE.IMS_PER_BATCH",
            cfg.NPLP.SOURCE.IMS_PER_BATCH,
            "NPLP.SOURCE.NUM_INSTANCE",
            cfg.NPLP.SOURCE.NUM_INSTANCE,
        ),
    )
    for batch_key, batch, instance_key, instances in batches:
        if instances < 1 or batch < instances or batch % instances:
            raise UserError(
                f"{batch_key} must be a positive multiple of {instance_key} (P x K images), "
                f"got {batch} and {instances}"
            )


def _validate_own_images(cfg: CfgNode) -> None:
    # A bundle names the data set without its source, which is loaded with the data set alone.
    own = cfg.DATASETS.OWN
    if own.CAMERA_PATTERN:
        compile_camera_pattern(own.CAMERA_PATTERN, "DATASETS.OWN.CAMERA_PATTERN")
    parse_columns(own.COLUMNS, "DATASETS.OWN.COLUMNS")


def validate_device(cfg: CfgNode) -> None:
    """Check that ``MODEL.DEVICE`` is one that there is.

    Raises:
        UserError: if not.
    """
    device = str(cfg.MODEL.DEVICE)
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(
            f"MODEL.DEVICE is {device!r}, but this machine has no CUDA device: set MODEL.DEVICE cpu"
        )
    if not device.startswith(("cuda", "cpu")):
        raise UserError(f"MODEL.DEVICE must be 'cpu' or 'cuda', got {device!r}")
