"""One function in several processes: with CUDA or without, spawned here or by torchrun."""

import ctypes
import importlib
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from nplp.compat.probes import refers_to
from nplp.errors import UserError

__all__ = ["bridge_launch", "end_with_parent", "from_main_process", "launch"]

Result = TypeVar("Result")
PR_SET_PDEATHSIG = 1
"""Of Linux's prctl: the signal that a process gets when its parent dies."""
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
TORCHRUN_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")


def launch(
    main_func: Callable[..., Any],
    num_gpus_per_machine: int,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str | None = "auto",
    args: tuple[Any, ...] = (),
) -> None:
    """Call ``main_func(*args)`` in each of ``num_machines * num_gpus_per_machine`` processes.

    With CUDA each process has a GPU and talks through NCCL; without, through gloo. Where torchrun has
    set ``RANK``, ``WORLD_SIZE`` and ``LOCAL_RANK``, this process is one of its workers: it joins them,
    and the numbers passed here are not used. One process is run in place, without a process group.

    Args:
        main_func: a function at the top level of a module, so that a new process can find it.
        num_gpus_per_machine: processes on each machine.
        num_machines: machines taking part; this function is called on each.
        machine_rank: number of this machine, from 0.
        dist_url: where the processes find each other, as ``tcp://host:port``; ``"auto"`` or ``None``,
            for one machine only, needs no free port.
        args: arguments of ``main_func``.

    Raises:
        UserError: if there are fewer GPUs than processes, or several machines and no ``dist_url``; or
            as raised by ``main_func`` in any process.
        SystemExit: with the same status, if ``main_func`` ends a process so.
    """
    if all(name in os.environ for name in TORCHRUN_VARIABLES):
        rank, size, local_rank = (int(os.environ[name]) for name in TORCHRUN_VARIABLES)
        _run_as_rank(main_func, args, rank, size, local_rank, "env://")
        return
    size = num_machines * num_gpus_per_machine
    if size <= 1:
        main_func(*args)
        return
    _check_request(num_gpus_per_machine, num_machines, dist_url)
    with tempfile.TemporaryDirectory(prefix="nplp-launch-") as folder:
        if dist_url in (None, "auto"):
            # A file needs no port, which another program could take between the choice and the use.
            dist_url = (Path(folder) / "rendezvous").as_uri()
        first_rank = machine_rank * num_gpus_per_machine
        common = (main_func, args, first_rank, size, num_gpus_per_machine, dist_url, folder)
        try:
            _wait_for(mp.spawn(_spawned, nprocs=num_gpus_per_machine, args=common, join=False))
        except mp.ProcessRaisedException:
            notes = sorted(Path(folder).glob("user-error-*"))
            if not notes:
                raise
            raise UserError(notes[0].read_text(encoding="utf-8")) from None
        except mp.ProcessExitedException as error:
            if error.signal_name is not None:
                raise
            sys.exit(error.exit_code)


def _wait_for(context: mp.ProcessContext) -> None:
    """Wait for spawned processes, which decide themselves what a signal does.

    SIGTERM is handed on to them. A terminal sends SIGINT to all processes, so that it is not.
    """

    def hand_on(signum: int, frame: FrameType | None) -> None:
        del frame
        for process in context.processes:
            if process.is_alive() and process.pid is not None:
                os.kill(process.pid, signum)

    before = [signal.signal(signal.SIGTERM, hand_on), signal.signal(signal.SIGINT, signal.SIG_IGN)]
    try:
        while not context.join():
            pass
    finally:
        for number, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
            signal.signal(number, handler)


def _check_request(num_gpus_per_machine: int, num_machines: int, dist_url: str | None) -> None:
    available = torch.cuda.device_count() if torch.cuda.is_available() else num_gpus_per_machine
    if num_gpus_per_machine > available:
        raise UserError(
            f"num_gpus_per_machine must be at most the {available} GPUs of this machine, "
            f"got {num_gpus_per_machine}"
        )
    if num_machines > 1 and dist_url in (None, "auto"):
        raise UserError(
            f"dist_url must name a host and a port for {num_machines} machines, got {dist_url!r}: "
            "pass the first machine's, as tcp://10.0.0.1:29500"
        )


def _spawned(
    local_rank: int,
    main_func: Callable[..., Any],
    args: tuple[Any, ...],
    first_rank: int,
    size: int,
    processes: int,
    dist_url: str,
    folder: str,
) -> None:
    """Run one spawned process; leave the text of a user's mistake where the parent looks for it."""
    if not torch.cuda.is_available() and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // processes))
    try:
        _run_as_rank(main_func, args, first_rank + local_rank, size, local_rank, dist_url)
    except UserError as error:
        (Path(folder) / f"user-error-{local_rank:04d}").write_text(str(error), encoding="utf-8")
        raise


def _run_as_rank(
    main_func: Callable[..., Any],
    args: tuple[Any, ...],
    rank: int,
    size: int,
    local_rank: int,
    dist_url: str,
) -> None:
    """Join the process group as ``rank`` of ``size``, call ``main_func`` and leave the group."""
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(local_rank)
    if size <= 1:
        main_func(*args)
        return
    comm: Any = importlib.import_module("fastreid.utils.comm")
    dist.init_process_group("nccl" if cuda else "gloo", init_method=dist_url, world_size=size, rank=rank)
    comm._LOCAL_PROCESS_GROUP = _group_of_machine(rank, size, local_rank)
    main_func(*args)
    # Not after an error: the others may wait in a collective that this process never reaches.
    comm.synchronize()
    comm._get_global_gloo_group.cache_clear()
    comm._LOCAL_PROCESS_GROUP = None
    dist.destroy_process_group()


def _group_of_machine(rank: int, size: int, local_rank: int) -> Any:
    """Return the group of the ranks on this machine; every rank must call this."""
    first_ranks: list[Any] = [None] * size
    # The ranks of a machine follow each other, so the first of them names the machine.
    dist.all_gather_object(first_ranks, rank - local_rank)
    own = None
    for first in sorted(set(first_ranks)):
        # Every group is made by all ranks, in the same order: torch requires it.
        group = dist.new_group([other for other, start in enumerate(first_ranks) if start == first])
        if first == rank - local_rank:
            own = group
    return own


def from_main_process(work: Callable[[], Result]) -> Result:
    """Call ``work`` on the main process and return its result on every process.

    Raises:
        UserError: on every process, if ``work`` raised it: none is left waiting for the others.
    """
    comm: Any = importlib.import_module("fastreid.utils.comm")
    if comm.get_world_size() == 1:
        return work()
    box: list[Any] = [None]
    if comm.is_main_process():
        try:
            box[0] = work()
        except UserError as error:
            box[0] = error
    dist.broadcast_object_list(box, src=0, group=comm._get_global_gloo_group())
    if isinstance(box[0], UserError):
        raise box[0]
    return box[0]


def bridge_launch() -> bool:
    """Replace ``launch`` (``engine/launch.py``) by :func:`launch`; return whether it was.

    The toolbox's asserts CUDA, knows no backend but NCCL, and does not know torchrun.
    """
    engine: Any = importlib.import_module("fastreid.engine")
    # The package's attribute of this name is the function, so the module is asked for by its path.
    module: Any = importlib.import_module("fastreid.engine.launch")
    if not refers_to(module._distributed_worker, "NCCL"):
        return False
    module.launch = engine.launch = launch
    return True


def end_with_parent(number: int) -> None:
    """Let this process get the signal ``number`` when its parent dies, however it does; on Linux alone."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, number)
