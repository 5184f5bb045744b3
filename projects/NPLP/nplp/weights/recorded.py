"""What a ``config.yaml`` beside weights says of the model: a run's, a bundle's, or one of the toolbox's."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nplp.errors import UserError
from nplp.files import read_yaml

__all__ = ["recorded_options"]

WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")
LARGEST = 4096


def _is_word(value: object) -> bool:
    return isinstance(value, str) and WORD.fullmatch(value) is not None


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value <= LARGEST


def _is_switch(value: object) -> bool:
    return isinstance(value, bool)


def _are_numbers(count: int) -> Callable[[object], bool]:
    def check(value: object) -> bool:
        return (
            isinstance(value, list | tuple)
            and len(value) == count
            and all(type(number) in (int, float) and abs(number) <= LARGEST for number in value)
        )

    return check


TAKEN: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(("MODEL.BACKBONE.NAME", "MODEL.BACKBONE.DEPTH", "MODEL.BACKBONE.NORM"), _is_word),
    **dict.fromkeys(("MODEL.BACKBONE.LAST_STRIDE", "MODEL.BACKBONE.FEAT_DIM"), _is_size),
    **dict.fromkeys((f"MODEL.BACKBONE.WITH_{part}" for part in ("IBN", "SE", "NL")), _is_switch),
    "MODEL.PIXEL_MEAN": _are_numbers(3),
    "MODEL.PIXEL_STD": _are_numbers(3),
    "INPUT.SIZE_TEST": _are_numbers(2),
}
"""Keys that are taken whatever the model is, and what their values must be."""

OF_OUR_HEAD: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys((f"MODEL.HEADS.{key}" for key in ("FUSION", "OUTPUT", "POOLING")), _is_word),
    **dict.fromkeys(("MODEL.HEADS.PAP", "MODEL.HEADS.EMBEDDING_DIM"), _is_size),
    "MODEL.HEADS.NECK_BIAS": _is_switch,
}

POOLINGS = {
    "GlobalAvgPool": "average",
    "FastGlobalAvgPool": "average",
    "Identity": "average",
    "GeneralizedMeanPooling": "gem",
    "GeneralizedMeanPoolingP": "gem",
    # Names of its first versions.
    "avgpool": "average",
    "fastavgpool": "average",
    "identity": "average",
    "gempool": "gem",
    "gempoolP": "gem",
}
"""The toolbox's pooling layers, and ours that gives the same; the others are not here."""


def recorded_options(path: Path) -> dict[str, Any]:
    """Return dotted keys and values of what a configuration says of backbone, head and images.

    Nothing is taken but names, numbers and switches of the model: a file may come from anyone.

    Raises:
        UserError: if it is no YAML, a value is none that its key can have, or its model pools as this project
            cannot.
    """
    content = read_yaml(path, "remove it, or give the one that was written with the weights")
    ours = _value(content, "MODEL.META_ARCHITECTURE") == "NPLP"
    options = {}
    for key, check in {**TAKEN, **(OF_OUR_HEAD if ours else {})}.items():
        value = _value(content, key)
        if value is None:
            continue
        if not check(value):
            raise UserError(
                f"{str(path)!r} sets {key} to {value!r:.60}, which is none of its values: remove it"
            )
        options[key] = list(value) if isinstance(value, tuple) else value
    pool = _value(content, "MODEL.HEADS.POOL_LAYER")
    if not ours and pool is not None:
        if pool not in POOLINGS:
            raise UserError(
                f"{str(path)!r} says that the model pools by {pool!r:.60}, which this project has not: give "
                f"a model that pools by one of {', '.join(list(POOLINGS)[:5])}"
            )
        options["MODEL.HEADS.POOLING"] = POOLINGS[pool]
    return options


def _value(content: Any, key: str) -> Any:
    for part in key.split("."):
        content = content.get(part) if isinstance(content, Mapping) else None
    return content
