"""One function in several processes: with CUDA or without, spawned here or by torchrun.

Processes wait for each other's work for as long as it takes. A process that died is noticed by its closed
connections (gloo) or by the process that spawned it, and a machine that vanished by its silence
(:mod:`.network`). The exception is a training step on GPUs, where NCCL's own limit of ten minutes holds. So
the main process never works alone while others wait in NCCL.
"""

import ctypes
import importlib
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from threading import Timer
from typing import Any
from urllib.parse import urlsplit

import torch
import torch.distributed as dist

from nplp.distributed.children import begin_child, report_to_parent, run_children
from nplp.distributed.collectives import largest
from nplp.distributed.network import choose_interface, fault_of_network, loss_explained, watch_connections
from nplp.distributed.starts import agree_on_start
from nplp.distributed.waiting import places_told
from nplp.errors import UserError

__all__ = ["end_with_parent", "launch", "restarted"]

PR_SET_PDEATHSIG = 1
"""Of Linux's prctl: the signal that a process gets when its parent dies."""
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
TORCHRUN_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
BY_TORCHRUN = "env://"
RESTARTS = "TORCHELASTIC_RESTART_COUNT"
PATIENT = timedelta(days=365)
"""The limit of collectives that wait for long work; torch has no way to set none."""
TIME_TO_JOIN = timedelta(minutes=30)
TIME_TO_WONDER = 30.0
"""Seconds after which a process that waits for other machines says so."""


def launch(
    main_func: Callable[..., Any],
    num_gpus_per_machine: int,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str | None = "auto",
    args: tuple[Any, ...] = (),
    device: str | None = None,
) -> None:
    """Call ``main_func(*args)`` in each of ``num_machines * num_gpus_per_machine`` processes.

    On CUDA each process has a GPU and talks through NCCL; on the CPU, through gloo. Where torchrun has
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
        device: where ``main_func`` computes, ``"cpu"`` or ``"cuda"``; default: CUDA where there is any.

    Raises:
        UserError: if there are fewer GPUs than processes, several machines and no ``dist_url``, or other
            machines do not join or are lost; or as raised by ``main_func`` in any process.
        SystemExit: with the same status, if ``main_func`` ends a process so, or a signal ended them.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    cuda = torch.device(device).type == "cuda"
    if all(name in os.environ for name in TORCHRUN_VARIABLES):
        rank, size, local_rank = (int(os.environ[name]) for name in TORCHRUN_VARIABLES)
        _check_device(device, size)
        _run_as_rank(main_func, args, rank, size, local_rank, BY_TORCHRUN, cuda)
        return
    size = num_machines * num_gpus_per_machine
    if size <= 1:
        main_func(*args)
        return
    _check_device(device, size)
    _check_request(num_gpus_per_machine, num_machines, dist_url, cuda)
    with tempfile.TemporaryDirectory(prefix="nplp-launch-") as folder:
        if dist_url in (None, "auto"):
            # A file needs no port, which another program could take between the choice and the use.
            dist_url = (Path(folder) / "rendezvous").as_uri()
        first_rank = machine_rank * num_gpus_per_machine
        common = (main_func, args, first_rank, size, num_gpus_per_machine, dist_url, folder, cuda)
        run_children(_spawned, num_gpus_per_machine, common, Path(folder))


def restarted() -> bool:
    """Tell whether torchrun has started the run's processes again; every process must call this.

    torchrun counts on each machine the failures of that machine's processes alone.
    """
    return largest(_starts()) > 0


def _starts() -> int:
    """Return how often this process is known to have been started again."""
    return int(os.environ.get(RESTARTS) or 0)


def _check_device(device: str, size: int) -> None:
    if size > 1 and torch.device(device).index is not None:
        raise UserError(
            f"MODEL.DEVICE must be 'cpu' or 'cuda' for {size} processes, got {device!r}: each has a GPU of "
            "its own; CUDA_VISIBLE_DEVICES says which there are"
        )


def _check_request(num_gpus_per_machine: int, num_machines: int, dist_url: str | None, cuda: bool) -> None:
    available = torch.cuda.device_count() if cuda else num_gpus_per_machine
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
    cuda: bool,
) -> None:
    """Run one spawned process."""
    try:
        begin_child(folder, local_rank)
        if not cuda and "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(max(1, torch.get_num_threads() // processes))
        _run_as_rank(main_func, args, first_rank + local_rank, size, local_rank, dist_url, cuda)
    except UserError as error:
        report_to_parent(error, folder, local_rank)
        sys.exit(1)
    except KeyboardInterrupt:
        # The parent may hand on what a terminal has sent to this process already.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # torch would take it for a good end.
        sys.exit(128 + signal.SIGINT)


def _run_as_rank(
    main_func: Callable[..., Any],
    args: tuple[Any, ...],
    rank: int,
    size: int,
    local_rank: int,
    dist_url: str,
    cuda: bool,
) -> None:
    """Join the process group as ``rank`` of ``size``, call ``main_func`` and leave the group."""
    if cuda:
        torch.cuda.set_device(local_rank)
    if size <= 1:
        main_func(*args)
        return
    comm: Any = importlib.import_module("fastreid.utils.comm")
    host, _ = _meeting_point(dist_url)
    choose_interface(host)
    with _explained(rank, size, dist_url):
        store, _, _ = next(dist.rendezvous(dist_url, rank, size, timeout=TIME_TO_JOIN))
        if dist_url == BY_TORCHRUN:
            start, earlier = agree_on_start(store, rank, size, TIME_TO_JOIN.total_seconds())
            store = dist.PrefixStore(start, store)
            os.environ[RESTARTS] = str(max(_starts(), earlier))
        dist.init_process_group(
            "nccl" if cuda else "gloo",
            store=dist.PrefixStore("nplp", store),
            world_size=size,
            rank=rank,
            timeout=None if cuda else PATIENT,
        )
    patient = dist.new_group(backend="gloo", timeout=PATIENT) if cuda else dist.group.WORLD
    toolbox_group = comm._get_global_gloo_group
    # The toolbox's own, through which it gathers, is given up after half an hour.
    comm._get_global_gloo_group = lambda: patient
    comm._LOCAL_PROCESS_GROUP = _group_of_machine(rank, size, local_rank)
    watch_connections()
    # On one machine the process that spawned them knows which was lost, and how.
    with loss_explained(rank, size) if host else nullcontext(), places_told(store, rank, size):
        main_func(*args)
    # Not after an error: the others may wait in a collective that this process never reaches.
    dist.barrier(group=patient)
    comm._get_global_gloo_group = toolbox_group
    comm._LOCAL_PROCESS_GROUP = None
    dist.destroy_process_group()


def _meeting_point(dist_url: str) -> tuple[str | None, str]:
    """Return the host where the processes meet, ``None`` where that is a file, and the whole in words."""
    if dist_url == BY_TORCHRUN:
        host = os.environ.get("MASTER_ADDR")
        return host, f"{host}:{os.environ.get('MASTER_PORT')}"
    return urlsplit(dist_url).hostname, dist_url


@contextmanager
def _explained(rank: int, size: int, dist_url: str) -> Iterator[None]:
    """Say what is waited for while the processes of several machines find each other.

    Raises:
        UserError: if they do not.
    """
    where = f"process {rank} of {size} (numbers from 0) waits for the others at {_meeting_point(dist_url)[1]}"
    hint = "start the same command on every machine, each with its --machine-rank and the same --dist-url"
    if dist_url == BY_TORCHRUN:
        hint = (
            "start torchrun on every machine; where that is not an address of the first machine that the "
            "others can reach, give each torchrun its machine's as --local-addr"
        )
    wondering = Timer(TIME_TO_WONDER, lambda: sys.stderr.write(f"{where}: {hint}\n"))
    wondering.daemon = True
    wondering.start()
    try:
        yield
    except (dist.DistError, TimeoutError) as error:
        raise UserError(f"{where}, in vain for {TIME_TO_JOIN}: {hint}") from error
    except RuntimeError as error:
        fault = fault_of_network(error)
        if not fault:
            raise
        raise UserError(
            f"process {rank} of {size} (numbers from 0) cannot reach another one ({fault}): set "
            "GLOO_SOCKET_IFNAME on each machine to its interface to the others, as `ip address` names it"
        ) from error
    finally:
        wondering.cancel()


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


def end_with_parent(number: int) -> None:
    """Let this process get the signal ``number`` when its parent dies, however it does; on Linux alone."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, number)
