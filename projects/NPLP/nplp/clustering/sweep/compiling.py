"""Compiled kernels, kept on the disk where that is possible and otherwise compiled in each run.

numba is imported when the first kernel is called, as it takes a fifth of a second that programs which call
none should not wait for.
"""

from __future__ import annotations

import functools
import importlib
import logging
import pickle
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["Kernel", "compiled"]

logger = logging.getLogger(__name__)

_UNREADABLE = (OSError, EOFError, pickle.UnpicklingError)
"""What a folder without rights or room gives, and a file that a crash left empty or torn."""
_BUILDING = threading.RLock()


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Kernel]:
    """Return a decorator that compiles a function when it is first called, and releases Python's lock in it.

    The result is kept beside the package or in the user's cache folder. Where neither can be written or read,
    as in a container, or where the disk is full, the function is compiled anew in each run: one line in the
    log says so.

    Args:
        options: more of numba's, such as ``error_model``.
    """
    return functools.partial(Kernel, options=options)


class Kernel:
    """A function that numba compiles when it is first called, by Python or by another kernel."""

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        """Take the function and numba's options; nothing is compiled."""
        functools.update_wrapper(self, function)
        self._function = function
        self._options = options
        self._dispatcher: Any = None

    def __call__(self, *args: Any) -> Any:
        """Return what the compiled function does."""
        return (self._dispatcher or self.dispatcher)(*args)

    @property
    def dispatcher(self) -> Any:
        """The object that numba makes of the function."""
        with _BUILDING:
            if self._dispatcher is None:
                self._dispatcher = _build(self._function, self._options)
        return self._dispatcher


def _build(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    """Return numba's object for a function; nothing is compiled before it is called."""
    numba: Any = importlib.import_module("numba")
    dispatcher = numba.njit(nogil=True, **options)(function)
    try:
        dispatcher._cache = _forgiving_cache()(function)
    except (RuntimeError, OSError) as error:
        # A RuntimeError where numba finds no folder that it may write to.
        _warn_of(error)
    return dispatcher


@functools.cache
def _forgiving_cache() -> Any:
    """Return the class of numba's cache that goes on without what cannot be read or written.

    The first call also tells numba that a kernel which another one calls stands for its numba object.
    """
    caching: Any = importlib.import_module("numba.core.caching")
    extending: Any = importlib.import_module("numba.extending")
    extending.typeof_impl.register(Kernel)(
        lambda kernel, context: extending.typeof_impl(kernel.dispatcher, context)
    )

    class ForgivingCache(caching.FunctionCache):
        """Of one function."""

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

    return ForgivingCache


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
