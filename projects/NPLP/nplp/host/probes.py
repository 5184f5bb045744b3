"""How a bridge finds out whether the defect it is for is there."""

import inspect
import types
import warnings
from collections.abc import Callable
from typing import Any

__all__ = ["misbehaves", "refers_to"]


def refers_to(function: Callable[..., Any], word: str) -> bool:
    """Return whether the compiled body of ``function`` uses ``word`` as a name or as a whole string.

    Bodies of functions defined inside it count too, and decorators made with ``functools.wraps`` are
    looked through. What is not written in Python refers to nothing.
    """
    code = getattr(inspect.unwrap(function), "__code__", None)
    pending = [code] if isinstance(code, types.CodeType) else []
    while pending:
        body = pending.pop()
        if word in body.co_names or word in body.co_consts:
            return True
        pending.extend(constant for constant in body.co_consts if isinstance(constant, types.CodeType))
    return False


def misbehaves(call: Callable[[], Any]) -> bool:
    """Return whether ``call`` warns, or fails with the errors of a changed signature.

    Neither the warning nor the error leaves this function.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            call()
        except (TypeError, ValueError, AttributeError, RuntimeError):
            return True
    return bool(caught)
