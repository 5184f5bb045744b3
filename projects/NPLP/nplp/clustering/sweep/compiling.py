"""Compiled kernels, kept on the disk where that is possible and otherwise compiled in each run."""

from __future__ import annotations

import functools
import logging
import pickle
from collections.abc import Callable
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache

__all__ = ["compiled"]

logger = logging.getLogger(__name__)

_UNREADABLE = (OSError, EOFError, pickle.UnpicklingError)
"""What a folder without rights or room gives, and a file that a crash left empty or torn."""


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a function when it is first called, and releases Python's lock in it.

    The result is kept beside the package or in the user's cache folder. Where neither can be written or read,
    as in a container, or where the disk is full, the function is compiled anew in each run: one line in the
    log says so.

    Args:
        options: more of numba's, such as ``error_model``.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        kernel = njit(nogil=True, **options)(function)
        try:
            kernel._cache = _ForgivingCache(function)
        except (RuntimeError, OSError) as error:
            # A RuntimeError where numba finds no folder that it may write to.
            _warn_of(error)
        return kernel

    return decorate


class _ForgivingCache(FunctionCache):
    """Goes on without what cannot be read or written."""

    def load_overload(self, *args: Any) -> Any:
        """Return a compiled function, or None where there is none to be read."""
        try:
            return super().load_overload(*args)
        except _UNREADABLE as error:
            return _warn_of(error)

    def save_overload(self, *args: Any) -> None:
        """Keep a compiled function if it can be written."""
        try:
            super().save_overload(*args)
        except _UNREADABLE as error:
            _warn_of(error)


def _warn_of(error: Exception) -> None:
    """Say once why compiled kernels are not kept."""
    if isinstance(error, OSError):
        _warn(error.strerror or str(error))
    elif isinstance(error, RuntimeError):
        _warn("neither the package's folder nor a cache can be written")
    else:
        _warn("a kept file is damaged")


@functools.cache
def _warn(reason: str) -> None:
    """Write a line of the log, once for each reason."""
    logger.warning(
        "compiled kernels cannot be kept, so that each run compiles them again: %s; NUMBA_CACHE_DIR may name "
        "a folder for them",
        reason,
    )
