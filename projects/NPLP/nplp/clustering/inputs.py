"""Checks of what the caller gave; every error names the argument, its rule and the value seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np
import torch

__all__ = [
    "as_features",
    "as_integer_ids",
    "check_at_least",
    "check_choice",
    "check_epsilon",
    "check_fraction",
]


def as_features(features: torch.Tensor | np.ndarray) -> torch.Tensor:
    """Return features as a detached [N, D] tensor of float32 or float64, on the device they were on.

    Args:
        features: [N, D], a tensor on any device or an array, of any real type. Half precision becomes
            float32 and integers become float64, both without loss; float32 and float64 are not copied.

    Raises:
        ValueError: if the shape is not [N, D] with N >= 2 and D >= 1, the type is not real, or a value is
            NaN or infinite.
    """
    tensor = features.detach() if isinstance(features, torch.Tensor) else _tensor_of_array(features)
    if tensor.ndim != 2 or tensor.shape[1] < 1:
        raise ValueError(f"features must be of shape [N, D] with D >= 1, got {list(tensor.shape)}")
    if tensor.shape[0] < 2:
        raise ValueError(f"features must hold at least 2 images, got {tensor.shape[0]}")
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise ValueError(f"features must be real numbers, got {tensor.dtype}")
    if tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.to(torch.float32 if tensor.is_floating_point() else torch.float64)
    bad_rows = (~torch.isfinite(tensor).all(dim=1)).nonzero().flatten()
    if len(bad_rows):
        raise ValueError(
            f"features must be finite, got NaN or infinite values in {len(bad_rows)} of {len(tensor)} rows, "
            f"the first of them row {int(bad_rows[0])}"
        )
    return tensor


def _tensor_of_array(features: np.ndarray) -> torch.Tensor:
    """Return an array as a tensor, without a copy where torch can share its memory."""
    array = np.asarray(features)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"features must be real numbers, got {array.dtype}")
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    elif array.dtype.itemsize < 4:
        array = array.astype(np.float32)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    # torch warns of read-only memory and refuses negative strides; nothing here writes to the features.
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


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
