"""The toolbox's data loader, for the CPU too."""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader

__all__ = ["DataLoaderX", "bridge_loaders"]


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
        return _copied_ahead(batches, self.device) if self.device.type == "cuda" else batches


def _copied_ahead(batches: Iterator[Any], device: torch.device) -> Iterator[Any]:
    """Yield ``batches`` on ``device``, each copied while the one before is in use."""
    stream = torch.cuda.Stream(device)
    waiting: list[tuple[Any, torch.cuda.Event]] = []
    for batch in batches:
        with torch.cuda.stream(stream):
            waiting.append((_to_device(batch, device), stream.record_event()))
        if len(waiting) == 2:
            yield _hand_over(*waiting.pop(0), device)
    for batch, copied in waiting:
        yield _hand_over(batch, copied, device)


def _to_device(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {key: _to_device(value, device) for key, value in batch.items()}
    return batch


def _hand_over(batch: Any, copied: torch.cuda.Event, device: torch.device) -> Any:
    """Make the present stream wait for the copy, and keep the memory until that stream is done with it."""
    current = torch.cuda.current_stream(device)
    current.wait_event(copied)
    pending = [batch]
    while pending:
        item = pending.pop()
        if isinstance(item, torch.Tensor):
            item.record_stream(current)
        elif isinstance(item, Mapping):
            pending.extend(item.values())
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
