"""What a bundle's configuration may say. It may come from a stranger, so each value is looked at first.

Only what describes the model and its evaluation is taken; folders and files never are. The values are set one
by one, not merged: the toolbox's merging would read Python literals out of their text.
"""

import math
import re
import reprlib
from collections.abc import Mapping
from typing import Any

import yaml
from fastreid.config import CfgNode
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from fastreid.modeling.heads import REID_HEADS_REGISTRY
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY

from nplp.config.keys import default_config
from nplp.errors import UserError, in_one_line
from nplp.weights.zoo import CONFIG, NAME, WEIGHTS, ZOO_PREFIX, Bundle

__all__ = ["KEPT", "RefusedKeyError", "load_bundle_config", "parse_configuration"]

KEPT = {
    "MODEL": (
        "META_ARCHITECTURE",
        "BACKBONE",
        "HEADS",
        "LOSSES",
        "NORM_CAMERAS",
        "PIXEL_MEAN",
        "PIXEL_STD",
        "WEIGHTS",
    ),
    "INPUT": ("SIZE_TRAIN", "SIZE_TEST"),
    "DATASETS": ("NAMES", "TESTS", "SYNTHETIC"),
    "DATALOADER": ("NUM_WORKERS",),
    "TEST": (),
}
"""Sections of a bundle's configuration and the keys of each; none: all."""

FIXED: dict[str, Any] = {
    "MODEL.BACKBONE.PRETRAIN": False,
    "MODEL.BACKBONE.PRETRAIN_PATH": "",
    "MODEL.LOSSES.NAME": [],
    "DATASETS.SYNTHETIC.ROOT": "",
}
"""Keys that have one value in every bundle."""

REGISTRIES = {
    "MODEL.META_ARCHITECTURE": META_ARCH_REGISTRY,
    "MODEL.BACKBONE.NAME": BACKBONE_REGISTRY,
    "MODEL.HEADS.NAME": REID_HEADS_REGISTRY,
}

RANGES: dict[str, tuple[float, float]] = {
    # A linear layer of the largest head takes 1.4 GB.
    "MODEL.BACKBONE.FEAT_DIM": (1, 4096),
    "MODEL.HEADS.EMBEDDING_DIM": (0, 4096),
    "MODEL.HEADS.PAP": (1, 6),
    "MODEL.HEADS.NUM_CLASSES": (0, 1),
    "MODEL.PIXEL_STD": (1e-6, 1e6),
    "INPUT.SIZE_TRAIN": (16, 1024),
    "INPUT.SIZE_TEST": (16, 1024),
    "DATASETS.SYNTHETIC.SEED": (0, 2**32 - 1),
    "DATASETS.SYNTHETIC.IMAGE_SIZE": (32, 512),
    "DATALOADER.NUM_WORKERS": (0, 64),
    "TEST.IMS_PER_BATCH": (1, 4096),
    "TEST.AQE.QE_TIME": (0, 16),
    "TEST.BOOTSTRAP": (0, 100_000),
}
"""Bounds of numbers, or of each number in a list, where those below are too wide."""

WHOLE_NUMBERS = (0, 4096)
FRACTIONS = (-1e6, 1e6)
WORD = re.compile(r"[A-Za-z0-9_.-]{0,64}")
"""Texts are names, which cannot be paths."""
LONGEST_LIST = 16
MOST_DRAWN = 50_000
"""Synthetic images of a domain before it is drawn; a large benchmark has as many."""
MOST_PIXELS = 2**25
"""Of an evaluation's batch: 1,024 images of 256 x 128."""


def load_bundle_config(bundle: Bundle, file: str = CONFIG) -> CfgNode:
    """Return the toolbox's configuration with what a bundle's own says, and the bundle's weights.

    Raises:
        UserError: if a file was altered, or naming the first key that a bundle may not set so.
    """
    where = str(bundle.folder / file)
    try:
        cfg = parse_configuration(bundle.text(file))
    except RefusedKeyError as error:
        raise UserError(
            f"{where!r}, which may come from anyone, {error}: do not use the bundle, or copy the file "
            "elsewhere and give it as --config-file after you have read it"
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(
            f"{where!r} is not plain YAML ({in_one_line(error)}): do not use the bundle"
        ) from error
    cfg.MODEL.WEIGHTS = str(bundle.path(WEIGHTS))
    return cfg


SHORT = reprlib.Repr()
"""Writes a value in few words: lists may hold each other, and a few lines of them would fill the memory."""
SHORT.maxstring = SHORT.maxother = 80


class RefusedKeyError(Exception):
    """A key that a bundle may not set, or not so; the message goes on from the file's name."""

    def __init__(self, key: str, value: object, rule: str) -> None:
        super().__init__(f"sets {key} to {SHORT.repr(value)}, but {rule}")


def parse_configuration(text: str) -> CfgNode:
    """Return the toolbox's configuration with what ``text`` says, each key of which has been looked at.

    Args:
        text: YAML without merged mappings.

    Raises:
        RefusedKeyError: naming the first key that a bundle may not set, or not so.
        yaml.YAMLError, ValueError, RecursionError: if it is not plain YAML.
    """
    cfg = default_config()
    _take_section(cfg, yaml.load(text, Loader=_PlainLoader), ())
    _check_amounts(cfg)
    return cfg


class _PlainLoader(yaml.SafeLoader):
    """Builds plain values, without the merged mappings by which a few lines become a million."""

    def flatten_mapping(self, node: Any) -> None:
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, "it merges mappings", key.start_mark)


def _take_section(node: CfgNode, content: object, place: tuple[str, ...]) -> None:
    """Put a section's values into ``node``, whose own values tell the types."""
    name = ".".join(place) or "the whole"
    if not isinstance(content, dict):
        raise RefusedKeyError(name, content, "it must be a section")
    for key, value in content.items():
        full = ".".join((*place, str(key)))
        known = isinstance(key, str) and key in node and _is_kept((*place, key))
        if not known:
            raise RefusedKeyError(
                SHORT.repr(full), value, "a bundle sets only what its model and evaluation need"
            )
        if full in FIXED:
            if value != FIXED[full]:
                raise RefusedKeyError(full, value, f"in a bundle it is {FIXED[full]!r}")
            node[key] = type(node[key])(value)
        elif isinstance(node[key], CfgNode):
            _take_section(node[key], value, (*place, key))
        else:
            node[key] = _value_like(node[key], value, full)


def _is_kept(place: tuple[str, ...]) -> bool:
    keys = KEPT.get(place[0])
    return keys is not None and (len(place) == 1 or not keys or place[1] in keys)


def _value_like(default: Any, value: Any, key: str) -> Any:
    """Return a value if it is of its default's type and in its range."""
    if isinstance(default, list | tuple):
        numbers = bool(default) and not isinstance(default[0], str)
        if not isinstance(value, list) or len(value) > LONGEST_LIST:
            raise RefusedKeyError(key, value, f"it must be a list of at most {LONGEST_LIST}")
        if numbers and len(value) != len(default):
            raise RefusedKeyError(key, value, f"it must have {len(default)} numbers")
        pattern = default[0] if default else ""
        return type(default)(_value_like(pattern, item, key) for item in value)
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise RefusedKeyError(key, value, "it must be true or false")
        return value
    if isinstance(default, int | float):
        return _number_like(default, value, key)
    if key == "MODEL.WEIGHTS":
        if not isinstance(value, str) or not NAME.fullmatch(value.removeprefix(ZOO_PREFIX)):
            raise RefusedKeyError(key, value, f"it must be {ZOO_PREFIX} and the bundle's name")
        return value
    if not isinstance(value, str) or not WORD.fullmatch(value):
        raise RefusedKeyError(key, value, "it must be a name of letters, digits, '_', '.' and '-'")
    if key in REGISTRIES:
        try:
            REGISTRIES[key].get(value)
        except KeyError as error:
            raise RefusedKeyError(key, value, "there is nothing of that name here") from error
    return value


def _number_like(default: float, value: Any, key: str) -> float:
    whole = isinstance(default, int)
    low, high = RANGES.get(key, WHOLE_NUMBERS if whole else FRACTIONS)
    kinds = (int,) if whole else (int, float)
    if type(value) not in kinds or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        raise RefusedKeyError(key, value, f"it must be {kind} in [{low:g}, {high:g}]")
    return value if whole else float(value)


def _check_amounts(cfg: CfgNode) -> None:
    """Look at what several keys amount to: pictures to draw, and pixels in a batch."""
    synthetic: Mapping[str, Any] = cfg.DATASETS.SYNTHETIC
    people = synthetic["TRAIN_IDENTITIES"] + synthetic["TEST_IDENTITIES"]
    drawn = people * synthetic["IMAGES_PER_IDENTITY"]
    if drawn > MOST_DRAWN:
        key = "DATASETS.SYNTHETIC.IMAGES_PER_IDENTITY"
        value = synthetic["IMAGES_PER_IDENTITY"]
        raise RefusedKeyError(
            key, value, f"for {people:,} identities that is more than the {MOST_DRAWN:,} images of a bundle"
        )
    pixels = cfg.TEST.IMS_PER_BATCH * math.prod(cfg.INPUT.SIZE_TEST)
    if pixels > MOST_PIXELS:
        rule = f"with INPUT.SIZE_TEST that is {pixels:,} pixels a batch, of at most {MOST_PIXELS:,}"
        raise RefusedKeyError("TEST.IMS_PER_BATCH", cfg.TEST.IMS_PER_BATCH, rule)
