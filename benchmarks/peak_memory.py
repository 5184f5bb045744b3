"""How much memory this process takes at its peak, and a limit to it. Linux and macOS."""

from __future__ import annotations

import ctypes
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

__all__ = ["PeakMemory", "available_memory", "data_limit"]

MB = 1 << 20
_STATUS = Path("/proc/self/status")
_CLEAR_PEAK = Path("/proc/self/clear_refs")


class PeakMemory:
    """The growth of the peak of resident memory since this object was made, in MB.

    What was freed before is given back to the system first: memory that the allocator keeps would be part of
    the start, and its use would not be seen. Without /proc the peak cannot be set back, and only what goes
    beyond the peak so far is seen.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        _give_back_freed_memory()
        self._resettable = _reset_peak()
        self._start = _status_bytes("VmRSS") if self._resettable else _peak_bytes()
        self._device_start = 0
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            self._device_start = torch.cuda.memory_allocated(device)

    def host_mb(self) -> float:
        """Return the growth of the host's memory."""
        peak = _status_bytes("VmHWM") if self._resettable else _peak_bytes()
        return max(0, peak - self._start) / MB

    def device_mb(self) -> float | None:
        """Return the growth of what torch holds on the GPU; None on the CPU."""
        if self._device.type != "cuda":
            return None
        return (torch.cuda.max_memory_allocated(self._device) - self._device_start) / MB


@contextmanager
def data_limit(allowance_mb: int | None) -> Iterator[None]:
    """Let this process take `allowance_mb` more private memory than it has now; None for no limit.

    The limit is Linux's RLIMIT_DATA, which counts what is allocated (heap, anonymous maps, the stacks of
    threads), touched or not. RLIMIT_AS would also count the maps of libraries and address space that is only
    reserved, gigabytes with torch, and would say nothing about arrays.
    """
    if allowance_mb is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (_status_bytes("VmData") + allowance_mb * MB, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def available_memory() -> int | None:
    """Return the bytes that can be allocated without swapping, or None where the system does not say."""
    meminfo = Path("/proc/meminfo")
    return _field_bytes(meminfo, "MemAvailable") if meminfo.exists() else None


def _status_bytes(name: str) -> int:
    """Return a field of this process's status."""
    return _field_bytes(_STATUS, name)


def _field_bytes(path: Path, name: str) -> int:
    """Return a field that /proc gives in kB.

    Raises:
        ValueError: if the file has no such field.
    """
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"{path} must have a line {name}, found none")


def _peak_bytes() -> int:
    """Return the peak of resident memory since the process began."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _reset_peak() -> bool:
    """Set the peak back to what is resident now; tell whether that worked."""
    try:
        _CLEAR_PEAK.write_text("5", encoding="utf-8")
    except OSError:
        return False
    return _STATUS.exists()


def _give_back_freed_memory() -> None:
    """Return freed memory to the system, where the C library is glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
