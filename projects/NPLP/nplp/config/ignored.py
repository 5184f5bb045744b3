"""Keys of the toolbox's configuration that a run would take and not follow.

A setting that would change a run's results if it were obeyed is refused; one that would not is warned of. A
key counts as set where its value is not the toolbox's default.
"""

import functools
import logging
from collections.abc import Iterator
from typing import NamedTuple

from fastreid.config import CfgNode, get_cfg

from nplp.clustering.settings import CAMERA_JACCARD
from nplp.config.choices import OWN_IMAGES, PKU_REID, TRACKS_UNUSED
from nplp.config.dotted import flat, value_at
from nplp.config.keys import SOURCE_LOSSES, default_config
from nplp.config.method_sections import METHOD_SECTIONS
from nplp.errors import UserError
from nplp.losses import LOSSES

__all__ = ["refuse_ignored", "warn_of_ignored"]

logger = logging.getLogger(__name__)

NPLP = "NPLP"


class _Ignored(NamedTuple):
    """A key that is set and not followed, and what to do instead."""

    key: str
    instead: str


REFUSED = {
    "DATALOADER.SET_WEIGHT": "it belongs to the toolbox's SetReWeightSampler, which is not here",
    "DATASETS.COMBINEALL": "only training images are trained on, so name all sets in DATASETS.NAMES",
    "INPUT.AFFINE.ENABLED": "the toolbox asks torchvision for what it no longer has",
    "MODEL.FREEZE_LAYERS": "no layer is frozen",
    "SOLVER.FREEZE_ITERS": "no layer is frozen",
    "TEST.PRECISE_BN.ENABLED": "batch statistics are those of training",
}
"""Whatever the model is."""

WARNED = {
    "SOLVER.CHECKPOINT_PERIOD": "every epoch's end is saved",
}

REFUSED_OF_NPLP = {
    "MODEL.HEADS.CLS_LAYER": "the source classifier is linear (eq. 2)",
    "MODEL.HEADS.NECK_FEAT": "the triplet loss is of f_e, before the neck (eq. 1)",
    "MODEL.HEADS.POOL_LAYER": "pooling is that of MODEL.HEADS.PAP and POOLING, average or gem",
    "MODEL.HEADS.WITH_BNNECK": "PAPHead has the paper's neck always",
    "MODEL.LOSSES.CE.EPSILON": "eq. 2 smooths no labels",
    "MODEL.LOSSES.CE.SCALE": "losses are not weighted (eqs. 3 and 12)",
    "MODEL.LOSSES.TRI.NORM_FEAT": "eq. 1 is of f_e as it is",
    "MODEL.LOSSES.TRI.SCALE": "losses are not weighted (eqs. 3 and 12)",
    "SOLVER.MAX_EPOCH": "set NPLP.ITERATIONS and NPLP.EPOCHS_PER_ITERATION, or NPLP.SOURCE.MAX_EPOCH",
}

REFUSED_OF_OTHERS = {
    "NPLP.SAME_AT_ANY_WORLD_SIZE": "only MODEL.META_ARCHITECTURE NPLP takes losses of all processes' batches",
    "SOLVER.ACCUMULATE": "only MODEL.META_ARCHITECTURE NPLP takes a batch in parts",
}

WARNED_OF_NPLP = {
    "MODEL.HEADS.MARGIN": "the source classifier is linear (eq. 2)",
    "MODEL.HEADS.SCALE": "the source classifier is linear (eq. 2)",
    "MODEL.LOSSES.CE.ALPHA": "eq. 2 smooths no labels",
    "MODEL.LOSSES.CIRCLE": "there is no such loss in NPLP",
    "MODEL.LOSSES.COSFACE": "there is no such loss in NPLP",
    "MODEL.LOSSES.FL": "there is no such loss in NPLP",
    "TEST.EVAL_PERIOD": "set NPLP.EVAL_PERIOD",
    "TEST.FLIP.ENABLED": "only evaluation averages flipped images, and pseudo-labels are made without",
}

WARNED_OF_OTHERS = {
    "MODEL.HEADS.FUSION": "it belongs to NPLP's PAPHead",
    "MODEL.HEADS.PAP": "it belongs to NPLP's PAPHead",
    "MODEL.HEADS.POOLING": "it belongs to NPLP's PAPHead",
    "MODEL.HEADS.NECK_BIAS": "it belongs to NPLP's PAPHead",
    "MODEL.HEADS.OUTPUT": "it belongs to NPLP's PAPHead",
    "MODEL.CHANNELS_LAST": "only MODEL.META_ARCHITECTURE NPLP lays out its feature maps",
    "MODEL.COMPILE": "only MODEL.META_ARCHITECTURE NPLP compiles its backbone",
    "MODEL.NORM_CAMERAS": "only MODEL.META_ARCHITECTURE NPLP knows cameras",
    "MODEL.NORM_CHUNK": "only MODEL.META_ARCHITECTURE NPLP divides batches",
    "TEST.CAMERAS": "only MODEL.META_ARCHITECTURE NPLP has camera statistics",
    "NPLP": "only MODEL.META_ARCHITECTURE NPLP adapts",
}

OF_ONE_MODEL = {"KD": "Distiller", "MODEL.QUEUE_SIZE": "MoCo"}
"""Keys of one of the toolbox's models."""

TRANSFORMER = "build_vit_backbone"
BACKBONE_OPTIONS = {
    "build_resnet_backbone": ("NORM", "LAST_STRIDE", "WITH_IBN", "WITH_SE", "WITH_NL"),
    "build_resnext_backbone": ("NORM", "LAST_STRIDE", "WITH_IBN", "WITH_NL"),
    "build_resnest_backbone": ("NORM", "LAST_STRIDE"),
    "build_regnet_backbone": ("NORM", "LAST_STRIDE"),
    "build_effnet_backbone": ("NORM", "LAST_STRIDE"),
    "build_repvgg_backbone": ("NORM", "LAST_STRIDE"),
    "build_osnet_backbone": ("NORM", "WITH_IBN"),
    "build_mobilenetv2_backbone": ("NORM",),
    "build_mobilenetv3_backbone": ("NORM",),
    "build_shufflenetv2_backbone": ("NORM",),
    "build_narrow_resnet_backbone": ("LAST_STRIDE",),
    "build_timm_backbone": (),
    TRANSFORMER: (),
}
"""Which options of its layers each backbone follows; those of other backbones are not known here."""

LAYER_OPTIONS = BACKBONE_OPTIONS["build_resnet_backbone"]
TRANSFORMER_OPTIONS = ("ATT_DROP_RATE", "DROP_PATH_RATIO", "DROP_RATIO", "SIE_COE", "STRIDE_SIZE")

BATCH_NORMS = ("BN", "syncBN")

NEVER_APPLIED = ("INPUT.AUTOAUG", "INPUT.AUGMIX")
"""Augmentations whose default is to be applied to none of the images."""


def refuse_ignored(cfg: CfgNode) -> None:
    """Refuse settings that a run would not follow and that would change its results.

    Raises:
        UserError: naming the first of them, its value and what to do.
    """
    for key, instead in _refused(cfg):
        raise UserError(f"{key} {value_at(cfg, key)!r} is not followed here, leave it out: {instead}")


def warn_of_ignored(cfg: CfgNode) -> None:
    """Log settings without an effect on a run, one line for those of one reason."""
    keys: dict[str, list[str]] = {}
    for key, instead in _warned(cfg):
        keys.setdefault(instead, []).append(f"{key} {value_at(cfg, key)!r}")
    for instead, named in keys.items():
        logger.warning("%s: %s", ", ".join(named), instead)


def _refused(cfg: CfgNode) -> Iterator[_Ignored]:
    of_nplp = cfg.MODEL.META_ARCHITECTURE == NPLP
    yield from _among(cfg, {**REFUSED, **(REFUSED_OF_NPLP if of_nplp else REFUSED_OF_OTHERS)})
    if of_nplp and cfg.MODEL.HEADS.NORM not in BATCH_NORMS:
        yield _Ignored("MODEL.HEADS.NORM", "the neck is a batch normalisation")
    for section in NEVER_APPLIED:
        if value_at(cfg, section).ENABLED and not value_at(cfg, section).PROB:
            yield _Ignored(f"{section}.ENABLED", f"it is applied with {section}.PROB, which is 0.0")
    backbone = cfg.MODEL.BACKBONE.NAME
    if not cfg.MODEL.BACKBONE.PRETRAIN:
        yield from _among(cfg, {"MODEL.BACKBONE.PRETRAIN_PATH": "or set MODEL.BACKBONE.PRETRAIN True"})
    followed = BACKBONE_OPTIONS.get(backbone, LAYER_OPTIONS)
    unknown = [f"MODEL.BACKBONE.{option}" for option in LAYER_OPTIONS if option not in followed]
    yield from _among(cfg, dict.fromkeys(unknown, f"{backbone} has no such option"))


def _warned(cfg: CfgNode) -> Iterator[_Ignored]:
    model = cfg.MODEL.META_ARCHITECTURE
    yield from _among(cfg, {**WARNED, **(WARNED_OF_NPLP if model == NPLP else WARNED_OF_OTHERS)})
    if model != NPLP:
        yield from _of_losses_here(cfg)
    for key, owner in OF_ONE_MODEL.items():
        if model != owner:
            yield from _among(cfg, {key: f"no effect on MODEL.META_ARCHITECTURE {model}"})
    if cfg.MODEL.BACKBONE.NAME != TRANSFORMER:
        options = [f"MODEL.BACKBONE.{option}" for option in TRANSFORMER_OPTIONS]
        yield from _among(cfg, dict.fromkeys(options, f"no effect without {TRANSFORMER}"))
    for switch in _switched_off(cfg):
        section = switch.removesuffix(".ENABLED")
        yield from _among(cfg, {section: f"no effect while {switch} is False"})
    if model == NPLP:
        yield from _of_other_methods(cfg)
    if model == NPLP and cfg.NPLP.SOURCE.WEIGHTS:
        yield from _among(cfg, {"MODEL.WEIGHTS": "adaptation starts from NPLP.SOURCE.WEIGHTS"})
    solver, data_sets = cfg.SOLVER, (*cfg.DATASETS.NAMES, *cfg.DATASETS.TESTS, *cfg.NPLP.SOURCE.DATASETS)
    for keys, idle, reason in (
        (
            ("DATASETS.PKU.SPLIT", "DATASETS.PKU.HELD_OUT"),
            PKU_REID not in data_sets,
            f"{PKU_REID} is no data set of the run",
        ),
        (
            ("DATASETS.OWN.SOURCE", "DATASETS.OWN.CAMERA_PATTERN", "DATASETS.OWN.COLUMNS"),
            OWN_IMAGES not in data_sets,
            f"{OWN_IMAGES} is no data set of the run",
        ),
        (
            ("DATASETS.SYNTHETIC_TRACKS",),
            cfg.NPLP.TRACKS == TRACKS_UNUSED,
            f"NPLP.TRACKS is {TRACKS_UNUSED!r}",
        ),
        (
            ("DATASETS.SYNTHETIC_TRACKS",),
            cfg.NPLP.TRACKS != TRACKS_UNUSED and OWN_IMAGES in cfg.DATASETS.NAMES,
            f"{OWN_IMAGES} has the tracks of its table",
        ),
        (
            tuple(f"NPLP.{key}" for key in ("K1_INTRA", "K1_INTER", "K2_INTRA", "K2_INTER")),
            model == NPLP
            and CAMERA_JACCARD
            not in (cfg.NPLP.DISTANCE, cfg.NPLP.ASSESSMENT_DISTANCE, cfg.NPLP.CORRECTION_DISTANCE),
            f"NPLP.DISTANCE is not {CAMERA_JACCARD}",
        ),
        (
            ("DATALOADER.PREFETCH_FACTOR",),
            not cfg.DATALOADER.NUM_WORKERS,
            "DATALOADER.NUM_WORKERS is 0",
        ),
        (("TEST.RERANK_FORM",), not cfg.TEST.RERANK.ENABLED, "TEST.RERANK.ENABLED is False"),
        (("NPLP.EMA_DECAY",), model == NPLP and not cfg.NPLP.EMA, "NPLP.EMA is False"),
        (
            ("NPLP.NORM.IMAGES", "NPLP.NORM.BATCH"),
            model == NPLP and not (cfg.NPLP.NORM.REFRESH or cfg.MODEL.NORM_CAMERAS),
            "NPLP.NORM.REFRESH is False",
        ),
        (
            ("NPLP.STOP.MIN_ITERATIONS",),
            model == NPLP and not cfg.NPLP.STOP.AGREEMENT,
            "NPLP.STOP.AGREEMENT is 0",
        ),
        (
            ("MODEL.LOSSES.CC.TEMPERATURE",),
            model == NPLP and not cfg.MODEL.LOSSES.CC.NORMALIZE,
            "MODEL.LOSSES.CC.NORMALIZE is False",
        ),
        (
            ("SOLVER.WARMUP_FACTOR", "SOLVER.WARMUP_METHOD"),
            not solver.WARMUP_ITERS,
            "SOLVER.WARMUP_ITERS is 0",
        ),
        (
            ("SOLVER.ETA_MIN_LR",),
            solver.SCHED != "CosineAnnealingLR",
            "SOLVER.SCHED is not CosineAnnealingLR",
        ),
        (("SOLVER.GAMMA",), solver.SCHED != "MultiStepLR", "SOLVER.SCHED is not MultiStepLR"),
        (("SOLVER.MOMENTUM", "SOLVER.NESTEROV"), solver.OPT != "SGD", "SOLVER.OPT is not SGD"),
    ):
        if idle:
            yield from _among(cfg, dict.fromkeys(keys, f"no effect while {reason}"))


def _of_other_methods(cfg: CfgNode) -> Iterator[_Ignored]:
    """Yield the options of methods and losses that the run does not use."""
    for method, (section, options) in METHOD_SECTIONS.items():
        if method != cfg.NPLP.METHOD:
            keys = [f"{section}.{option}" for option in options]
            yield from _among(cfg, dict.fromkeys(keys, f"no effect without NPLP.METHOD {method}"))
    for loss in LOSSES.values():
        # The losses of pre-training are needed whatever adaptation uses.
        if loss.section and loss.name not in (*cfg.MODEL.LOSSES.NAME, *SOURCE_LOSSES):
            keys = [f"MODEL.LOSSES.{loss.section}.{option}" for option in loss.options]
            yield from _among(cfg, dict.fromkeys(keys, f"no effect without {loss.name}"))


def _of_losses_here(cfg: CfgNode) -> Iterator[_Ignored]:
    """Yield the options of losses that the toolbox's own models do not have."""
    of_toolbox = get_cfg()
    for loss in LOSSES.values():
        keys = [f"MODEL.LOSSES.{loss.section}.{option}" for option in loss.options]
        own = [key for key in keys if value_at(of_toolbox, key) is None]
        yield from _among(cfg, dict.fromkeys(own, f"it belongs to NPLP's {loss.name}"))


def _among(cfg: CfgNode, reasons: dict[str, str]) -> Iterator[_Ignored]:
    """Yield the keys, or those within the sections, whose values are not the defaults."""
    for name, reason in reasons.items():
        for key, value in flat({name: value_at(cfg, name)}).items():
            if value != value_at(_defaults(), key):
                yield _Ignored(key, reason)


def _switched_off(cfg: CfgNode) -> Iterator[str]:
    """Yield the keys named ENABLED that are False."""
    for key, value in flat({section: cfg[section] for section in ("INPUT", "SOLVER", "TEST")}).items():
        if key.endswith(".ENABLED") and not value:
            yield key


@functools.cache
def _defaults() -> CfgNode:
    return default_config()
