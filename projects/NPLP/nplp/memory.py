"""What memory there is, and blocks that shrink where it does not suffice."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import torch

__all__ = ["ShrinkingBlocks", "available_memory", "is_out_of_memory"]

Block = TypeVar("Block")

logger = logging.getLogger(__name__)

_OUT_OF_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""Words of errors that have no type of their own: torch's on the processor, and those of device libraries."""


def available_memory() -> int:
    """Return the bytes of memory that programs may still take, as Linux says; elsewhere a large number.

    Of a container the limit counts as well, whatever is in use of it.
    """
    found = [2**62]
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        # "max" is no number: there is none.
        with suppress(OSError, ValueError):
            found.append(int(Path(limit).read_text(encoding="ascii")))
    return min(found)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that the processor's or a device's memory does not suffice."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)


class ShrinkingBlocks:
    """Work in blocks that halve whenever one does not fit into memory, and stay as small as that."""

    def __init__(self, name: str, size: int) -> None:
        """Begin with blocks of ``size`` rows; ``name`` says of what, in the log."""
        self.size = size
        self._name = name
        self._warned = False

    def run(
        self, count: int, make: Callable[[int, int], Block], use: Callable[[Block], object] | None = None
    ) -> None:
        """Make blocks of rows from 0 to ``count`` in order, and use each at once.

        Args:
            count: number of rows.
            make: gets first row and end of a block; is called again with fewer rows where it runs out of
                memory, so that it must not change anything before all that it needs is there.
            use: gets each block, and each row once; None for nothing.

        Raises:
            MemoryError: or torch's, where a single row does not fit; what else ``make`` and ``use`` raise.
        """
        start = 0
        while start < count:
            stop = min(start + self.size, count)
            try:
                block = make(start, stop)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or stop - start < 2:
                    raise
                self.size = (stop - start) // 2
                self._warn()
                continue
            if use is not None:
                use(block)
            # Given back before the next block is made.
            del block
            start = stop

    def _warn(self) -> None:
        """Log once that blocks are getting smaller."""
        if not self._warned:
            logger.warning("%s: out of memory, going on with smaller blocks", self._name)
        self._warned = True
