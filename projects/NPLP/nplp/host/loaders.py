"""The toolbox's data loader, for the CPU too."""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader

__all__ = ["Copies", "DataLoaderX", "SideStream", "bridge_loaders", "copied_ahead", "to_device"]


class DataLoaderX(DataLoader):
    """A ``DataLoader`` whose batches arrive on the device of this process.

    With CUDA, batches are copied one ahead on a stream of their own, while the model works on the one
    before. Without CUDA it is a plain ``DataLoader`` and nothing is pinned. No thread is started: an
    error in a worker or in the data set reaches the caller of ``next``, and the worker processes end
    with the iterator.

    Args:
        local_rank: number of this process on its machine, which is the number of its GPU.
        device: where batches go; default: GPU ``local_rank`` where CUDA is available, else the CPU.
        **kwargs: as for ``torch.utils.data.DataLoader``.
    """

    def __init__(self, local_rank: int, device: torch.device | str | None = None, **kwargs: Any) -> None:
        if device is None:
            device = torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")
        self.local_rank = local_rank
        self.device = torch.device(device)
        if self.device.type != "cuda":
            kwargs["pin_memory"] = False
        super().__init__(**kwargs)

    def __iter__(self) -> Any:
        """Start a pass over the batches; the class says where their tensors are."""
        batches = super().__iter__()
        return copied_ahead(batches, SideStream(self.device)) if self.device.type == "cuda" else batches


class Copies(Protocol):
    """How batches are copied to a device while it works."""

    def begin(self, batch: Any) -> Any:
        """Begin to copy a batch, and return what :meth:`finish` needs."""

    def finish(self, begun: Any) -> Any:
        """Return the copy for the work that is asked for from now on."""


class SideStream:
    """Copies to a CUDA device on a stream of their own; only those from pinned memory run beside its work."""

    def __init__(self, device: torch.device) -> None:
        """Make the stream."""
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def begin(self, batch: Any) -> tuple[Any, torch.cuda.Event]:
        """Begin to copy a batch; return the copy and what happens when it is there."""
        with torch.cuda.stream(self._stream):
            return to_device(batch, self._device), self._stream.record_event()

    def finish(self, begun: tuple[Any, torch.cuda.Event]) -> Any:
        """Return the copy, for which the present stream waits, and whose memory is kept until it is done."""
        batch, copied = begun
        current = torch.cuda.current_stream(self._device)
        current.wait_event(copied)
        pending = [batch]
        while pending:
            item = pending.pop()
            if isinstance(item, torch.Tensor):
                item.record_stream(current)
            elif isinstance(item, Mapping):
                pending.extend(item.values())
        return batch


def copied_ahead(batches: Iterator[Any], copies: Copies) -> Iterator[Any]:
    """Yield ``batches`` in their order, the copy of each begun before the one before it is yielded."""
    waiting: list[Any] = []
    for batch in batches:
        waiting.append(copies.begin(batch))
        if len(waiting) == 2:
            yield copies.finish(waiting.pop(0))
    for begun in waiting:
        yield copies.finish(begun)


def to_device(batch: Any, device: torch.device) -> Any:
    """Return a batch with its tensors, those of mappings in it too, on ``device``."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {key: to_device(value, device) for key, value in batch.items()}
    return batch


def bridge_loaders() -> None:
    """Replace ``DataLoaderX`` (``data/data_utils.py``, ``data/build.py``).

    The toolbox's makes a CUDA stream when it is constructed and moves batches to a GPU number, so that
    it has no CPU path; and it reads through a background thread, which dies silently with the first
    error, whereupon the training waits for ever.
    """
    data_utils: Any = importlib.import_module("fastreid.data.data_utils")
    build: Any = importlib.import_module("fastreid.data.build")
    data_utils.DataLoaderX = build.DataLoaderX = DataLoaderX
