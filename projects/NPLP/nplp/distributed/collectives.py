"""What the processes of one run tell each other; every process must make each of these calls.

In one process nothing is sent.
"""

import importlib
import time
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from nplp.errors import UserError

__all__ = ["all_shares", "from_all", "from_main_process", "largest", "take_from_main_process", "wait_for"]

Result = TypeVar("Result")

LONGEST_PAUSE = 0.05
"""Seconds between two looks at whether the main process is done."""


def from_main_process(work: Callable[[], Result]) -> Result:
    """Call ``work`` on the main process and return its result on every process, however long it takes.

    Raises:
        UserError: on every process, if ``work`` raised it: none is left waiting for the others.
        RuntimeError: on the others, if the main process died.
    """
    comm = _comm()
    if comm.get_world_size() == 1:
        return work()
    box: list[Any] = [None]
    if comm.is_main_process():
        try:
            box[0] = work()
        except UserError as error:
            box[0] = error
    group = comm._get_global_gloo_group()
    _wait_for_main_process(group, comm.get_rank())
    dist.broadcast_object_list(box, src=0, group=group)
    if isinstance(box[0], UserError):
        raise box[0]
    return box[0]


def _wait_for_main_process(group: Any, rank: int) -> None:
    """Return when the main process has come here; a signal takes effect meanwhile.

    Waiting inside the collective, a process would not see the signal.
    """
    gate = dist.broadcast(torch.zeros(1), src=0, group=group, async_op=True)
    wait_for(gate, f"process {rank} waited for the main process, which has ended", pause=0.001)


def wait_for(work: Any, complaint: str, pause: float, longest: float = LONGEST_PAUSE) -> None:
    """Return when an exchange that was begun has ended; signals take effect meanwhile.

    Args:
        work: what the exchange returned with ``async_op``.
        complaint: what the error says.
        pause: seconds between looks at first.
        longest: what they grow to.

    Raises:
        RuntimeError: if another process has ended before it came to the exchange.
    """
    while not work.is_completed():
        time.sleep(pause)
        pause = min(2 * pause, longest)
    try:
        work.wait()
    except RuntimeError as error:
        raise RuntimeError(complaint) from error


def all_shares(share: torch.Tensor) -> list[torch.Tensor]:
    """Return the tensor of every process, in the order of their numbers, each of the shape of this one's.

    Args:
        share: on the device that the processes communicate from.
    """
    size = _comm().get_world_size()
    if size == 1:
        return [share]
    shares = [torch.empty_like(share) for _ in range(size)]
    dist.all_gather(shares, share)
    return shares


def from_all(value: Result) -> list[Result]:
    """Return the value of every process, in the order of their numbers; it is pickled on the way."""
    comm = _comm()
    if comm.get_world_size() == 1:
        return [value]
    values: list[Any] = [None] * comm.get_world_size()
    dist.all_gather_object(values, value, group=comm._get_global_gloo_group())
    return values


def take_from_main_process(tensor: torch.Tensor) -> None:
    """Overwrite a tensor by the main process's, which has the same shape and type.

    Args:
        tensor: on the device that the processes communicate from.
    """
    if _comm().get_world_size() > 1:
        dist.broadcast(tensor, src=0)


def largest(number: int) -> int:
    """Return the largest of the processes' numbers."""
    comm = _comm()
    if comm.get_world_size() == 1:
        return number
    value = torch.tensor(number)
    # Through the CPU: on a GPU it would wait until all work that is queued there is done.
    dist.all_reduce(value, op=dist.ReduceOp.MAX, group=comm._get_global_gloo_group())
    return int(value)


def _comm() -> Any:
    """Return the toolbox's module, imported when there is something to exchange."""
    return importlib.import_module("fastreid.utils.comm")
