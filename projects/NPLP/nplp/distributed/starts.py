"""Which start of a run this is: the processes that torchrun starts together agree on it through its store."""

import time
from typing import Any
from uuid import uuid4

__all__ = ["agree_on_start"]

POLL = 0.02
"""Seconds between two looks at who has come."""


def agree_on_start(store: Any, rank: int, size: int, patience: float) -> tuple[str, int]:
    """Return a name that only the processes of this start have, and how many starts came before.

    torchrun keeps its store when it starts the processes again: what the earlier ones left there would be
    taken for the others' addresses. Its own count of starts does not tell them apart: each machine counts the
    failures of its own processes alone. Every process must call this.

    Args:
        store: of ``torch.distributed``, with time limits of its own.
        rank: this process's number.
        size: number of processes.
        patience: seconds that the first process waits for the others.

    Returns:
        The name, and the number of starts that the store has seen before.

    Raises:
        TimeoutError: on the first process, if others do not come.
        DistStoreError: on the others, if it does not.
    """
    own = uuid4().hex
    if rank:
        store.set(f"call/{rank}", own)
        # Nobody but the first process of this start knows what was just written.
        name, _, earlier = store.get(f"answer/{own}").decode().partition(" ")
        store.add(f"came/{name}", 1)
        return name, int(earlier)
    earlier = store.add("starts", 1) - 1
    answered: set[str] = set()
    deadline = time.monotonic() + patience
    while store.add(f"came/{own}", 0) < size - 1:
        if time.monotonic() > deadline:
            raise TimeoutError("other processes have not come")
        for other in range(1, size):
            # It may be an earlier start's call. An answer to that is read by nobody.
            call = store.get(f"call/{other}").decode() if store.check([f"call/{other}"]) else ""
            if call and call not in answered:
                store.set(f"answer/{call}", f"{own} {earlier}")
                answered.add(call)
        time.sleep(POLL)
    return own, earlier
