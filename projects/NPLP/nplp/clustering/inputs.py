"""Checks of what the caller gave; every error names the argument, its rule and the value seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np
import torch

from nplp.errors import UserError

__all__ = [
    "as_features",
    "as_integer_ids",
    "check_at_least",
    "check_choice",
    "check_epsilon",
    "check_fraction",
    "check_several_cameras",
]

_BLOCK_VALUES = 1 << 22


def as_features(features: torch.Tensor | np.ndarray) -> np.ndarray:
    """Return features as a C-ordered [N, D] array of float32 or float64.

    Args:
        features: [N, D], a tensor on any device or an array, of any real type. Half precision becomes
            float32 and integers become float64, both without loss; float32 and float64 in C order on the
            CPU are not copied, so that a memory-mapped file stays one.

    Raises:
        ValueError: if the shape is not [N, D] with N >= 2 and D >= 1, the type is not real, or a value is
            NaN or infinite.
    """
    if isinstance(features, torch.Tensor):
        tensor = features.detach().cpu()
        # numpy has no bfloat16, and float32 holds all of its values.
        features = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    array = np.asarray(features)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"features must be real numbers, got {array.dtype}")
    if array.ndim != 2 or array.shape[1] < 1:
        raise ValueError(f"features must be of shape [N, D] with D >= 1, got {list(array.shape)}")
    if array.shape[0] < 2:
        raise ValueError(f"features must hold at least 2 images, got {array.shape[0]}")
    single = array.dtype.kind == "f" and array.dtype.itemsize <= 4
    array = np.ascontiguousarray(array, dtype=np.float32 if single else np.float64)
    _check_finite(array)
    return array


def _check_finite(array: np.ndarray) -> None:
    """Check that values [N, D] are finite, in blocks."""
    bad: list[int] = []
    step = max(1, _BLOCK_VALUES // array.shape[1])
    for start in range(0, len(array), step):
        finite = np.isfinite(array[start : start + step])
        if not finite.all():
            bad.extend((start + np.flatnonzero(~finite.all(axis=1))).tolist())
    if bad:
        raise ValueError(
            f"features must be finite, got NaN or infinite values in {len(bad)} of {len(array)} rows, "
            f"the first of them row {bad[0]}"
        )


def as_integer_ids(name: str, ids: torch.Tensor | np.ndarray | Sequence[int], count: int) -> np.ndarray:
    """Return ids as an array [count] of int64.

    Args:
        name: name of the argument, for the message.
        ids: [count] integers: a tensor on any device, an array or a sequence.
        count: how many there must be.

    Raises:
        ValueError: if they are not integers or not `count` in one dimension.
    """
    array = ids.detach().cpu().numpy() if isinstance(ids, torch.Tensor) else np.asarray(ids)
    if array.shape != (count,):
        raise ValueError(f"{name} must be of shape [{count}], one for each image, got {list(array.shape)}")
    if array.size and array.dtype.kind not in "iu":
        raise ValueError(f"{name} must be integers, got {array.dtype}")
    return array.astype(np.int64)


def check_fraction(name: str, value: float) -> None:
    """Check that a value is in (0, 1].

    Raises:
        ValueError: if it is not.
    """
    if not isinstance(value, Real) or not 0 < value <= 1:
        raise ValueError(f"{name} must be in (0, 1], got {value!r}")


def check_at_least(name: str, value: int, least: int) -> None:
    """Check that a value is an integer of `least` or more.

    Raises:
        ValueError: if it is not.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Check that a value is one of `choices`.

    Raises:
        ValueError: if it is not.
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def check_epsilon(value: float | None) -> None:
    """Check that a given radius is finite and not negative; None stands for none given.

    Raises:
        ValueError: if it is negative, infinite or NaN.
    """
    if value is not None and not (isinstance(value, Real) and math.isfinite(value) and value >= 0):
        raise ValueError(f"epsilon must be a finite distance of at least 0, or None, got {value!r}")


def check_several_cameras(camera_ids: np.ndarray | None) -> None:
    """Check that camera ids [N] are known and not all the same, for the distance that needs them.

    Raises:
        UserError: if they are not. It ends a run too, whose settings name no camera.
    """
    if camera_ids is None:
        raise UserError(
            "distance camera_jaccard needs camera_ids, got None: give them, or take distance jaccard"
        )
    if (camera_ids == camera_ids[0]).all():
        raise UserError(
            "distance camera_jaccard needs images of two cameras or more, got camera "
            f"{int(camera_ids[0])} alone: take distance jaccard"
        )
