"""Allocations that fail, one at a time or beyond a size, while the stage reads a tile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nplp.clustering.sweep import device_tiles, euclidean_tiles, features, neighbours, pairs, smallest, tiles

MODULES = (device_tiles, pairs, euclidean_tiles, features, neighbours, smallest)
MAKERS = (
    "bincount", "concatenate", "empty", "flatnonzero", "full", "minimum", "rint", "sqrt", "where", "zeros",
    "zeros_like",
)  # fmt: skip
"""The functions of numpy by which those modules get memory."""


class Faults:
    """Counts what is allocated while tiles are read, and lets one allocation fail, or all great ones.

    Attributes:
        seen: allocations so far.
        failed: how many of them failed.
    """

    def __init__(self, at: int | None = None, most: int | None = None) -> None:
        self.seen = self.failed = 0
        self._at, self._most = at, most
        self._reading = False

    def made(self, value: Any, error: Exception) -> Any:
        """Return a value that was allocated, or fail."""
        if self._reading:
            self.seen += 1
            size = value.numel() if isinstance(value, torch.Tensor) else np.size(value)
            if self.seen == self._at or (self._most is not None and size > self._most):
                self.failed += 1
                raise error
        return value

    @contextmanager
    def reading(self) -> Iterator[None]:
        self._reading = True
        try:
            yield
        finally:
            self._reading = False


class _Torch(TorchDispatchMode):
    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self._faults = faults

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = function(*args, **(kwargs or {}))
        if any(result.alias_info is not None for result in function._schema.returns):
            # A view, or what was given to be written to.
            return made
        return self._faults.made(made, torch.cuda.OutOfMemoryError("CUDA out of memory."))


class _Numpy:
    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        found = getattr(np, name)
        if name not in MAKERS:
            return found

        def maker(*args: Any, **options: Any) -> Any:
            return self._faults.made(found(*args, **options), MemoryError("Unable to allocate 9 GiB"))

        return maker


@contextmanager
def failing(faults: Faults) -> Iterator[Faults]:
    """Let allocations fail while tiles are read. Kernels must have been compiled before."""
    read = tiles._Pieces.read

    def watched(self: Any, tile: tiles.Tile, reader: Callable[[tiles.Tile], Any]) -> None:
        with faults.reading():
            read(self, tile, reader)

    with pytest.MonkeyPatch.context() as patch, _Torch(faults):
        patch.setattr(tiles._Pieces, "read", watched)
        for module in MODULES:
            patch.setattr(module, "np", _Numpy(faults))
        yield faults
