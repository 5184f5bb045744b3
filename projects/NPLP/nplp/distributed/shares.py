"""The processes of a run as the workers of a shared pass over pairs.

All that is exchanged goes through the CPU, by the group that waits as long as it takes. Before each exchange
the processes meet: they see that all of them are at the same one, and a signal takes effect while they wait.
A process that fails ends with its own error; the others, which wait for it, then end as well.
"""

import importlib
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist

from nplp.clustering.sweep import ALONE, Shares
from nplp.distributed.collectives import wait_for

__all__ = ["RankShares", "rank_shares"]

Value = TypeVar("Value")

LONGEST_PAUSE = 0.005
"""Seconds between two looks at whether all processes have come."""
KINDS = ("agreed", "gathered", "swapped", "summed", "largest")


def rank_shares() -> Shares:
    """Return this process as one of the run's workers; a process by itself as the only one."""
    comm: Any = importlib.import_module("fastreid.utils.comm")
    return RankShares(comm._get_global_gloo_group()) if comm.get_world_size() > 1 else ALONE


class RankShares:
    """This process as one of the workers of a group; see :class:`nplp.clustering.sweep.Shares`."""

    def __init__(self, group: Any) -> None:
        """Take a group of gloo, of all processes of the run."""
        self._group = group
        self._exchanges = 0
        self.number = dist.get_rank(group)
        self.count = dist.get_world_size(group)

    def agreed(self, value: Value) -> Value:
        """Return the first process's value, which is pickled on the way."""
        self._meet("agreed")
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self._group)
        return box[0]

    def gathered(self, array: np.ndarray) -> np.ndarray:
        """Return the processes' arrays one after the other. Memory: that of the result, and no more."""
        lengths = self._meet("gathered", len(array))
        whole = np.empty((sum(lengths), *array.shape[1:]), dtype=array.dtype)
        parts = np.split(whole, np.cumsum(lengths)[:-1])
        parts[self.number][:] = array
        sent = [
            dist.broadcast(_bytes(part), src=number, group=self._group, async_op=True)
            for number, part in enumerate(parts)
            if part.size
        ]
        for work in sent:
            work.wait()
        return whole

    def swapped(self, array: np.ndarray) -> np.ndarray:
        """Return the rows that this process owns, as each process has them."""
        self._meet("swapped", len(array))
        ends = [number * len(array) // self.count for number in range(self.count + 1)]
        width = array.dtype.itemsize * int(np.prod(array.shape[1:], dtype=np.int64))
        rows = ends[self.number + 1] - ends[self.number]
        own = np.empty((self.count, rows, *array.shape[1:]), dtype=array.dtype)
        dist.all_to_all_single(
            _bytes(own),
            _bytes(np.ascontiguousarray(array)),
            [rows * width] * self.count,
            [int(size) * width for size in np.diff(ends)],
            group=self._group,
        )
        return own

    def summed(self, array: np.ndarray) -> np.ndarray:
        """Return the sum of the processes' arrays."""
        return self._reduced("summed", array, dist.ReduceOp.SUM)

    def largest(self, array: np.ndarray) -> np.ndarray:
        """Return the greatest values of the processes' arrays."""
        return self._reduced("largest", array, dist.ReduceOp.MAX)

    def _reduced(self, kind: str, array: np.ndarray, how: Any) -> np.ndarray:
        self._meet(kind, array.size)
        result = torch.from_numpy(array.copy())
        dist.all_reduce(result, op=how, group=self._group)
        return result.numpy()

    def _meet(self, kind: str, length: int = 0) -> list[int]:
        """Wait until all processes have come to this exchange, and return the length that each of them has.

        Raises:
            RuntimeError: if a process has ended meanwhile, or is at another exchange.
        """
        self._exchanges += 1
        mine = torch.tensor([self._exchanges, KINDS.index(kind), length])
        theirs = list(torch.empty(self.count, 3, dtype=torch.int64))
        gate = dist.all_gather(theirs, mine, group=self._group, async_op=True)
        complaint = f"process {self.number} waited for the others' part of the labelling, and one has ended"
        wait_for(gate, complaint, pause=0.0001, longest=LONGEST_PAUSE)
        all_of_them = torch.stack(theirs)
        same = all_of_them[:, :2] == mine[:2]
        if not bool(same.all()):
            other = int(torch.nonzero(~same.all(dim=1))[0])
            raise RuntimeError(
                f"processes {self.number} and {other} label differently: one is at its exchange "
                f"{self._exchanges} ({kind}), the other at {int(all_of_them[other, 0])} "
                f"({KINDS[int(all_of_them[other, 1])]})"
            )
        return [int(value) for value in all_of_them[:, 2]]


def _bytes(array: np.ndarray) -> torch.Tensor:
    """Return a contiguous array's bytes, as one tensor that shares its memory."""
    return torch.from_numpy(array.reshape(-1).view(np.uint8))
