"""Imports without searches for cycles: what a package defines stays, and nothing of it can be collected."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["collection_paused"]


@contextmanager
def collection_paused() -> Iterator[None]:
    """Keep Python from looking for unreachable cycles inside; afterwards it does again, if it did before.

    torch and what stands on it leave some 190,000 objects when they are imported, and the searches among them
    take a tenth to a fifth of the processor's time of ``import nplp`` (``benchmarks/starting.py``).
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
