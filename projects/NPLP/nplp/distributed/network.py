"""The network between the machines of a run: its interface, and what happens when a machine is lost.

Nothing here needs to be set by a user. What is said of connections holds on Linux; other systems keep the
interface that gloo chooses, and notice a lost machine as late as they do by themselves.
"""

import os
import re
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch.distributed as dist

from nplp.errors import UserError, in_one_line

__all__ = ["choose_interface", "fault_of_network", "interface_towards", "loss_explained", "watch_connections"]

INTERFACE = "GLOO_SOCKET_IFNAME"
"""The variable by which gloo is told the interface."""
SIOCGIFADDR = 0x8915
"""Of Linux's ioctl: the IPv4 address of an interface."""
OF_GLOO = re.compile(
    r"\[(?!enforce)[^\]]*gloo/transport[^\]]*\]\s*(.*?)(?:\. This is typically|$)", re.DOTALL
)
"""What gloo says of a connection, after the line of its source; "enforce" begins a fault of a program."""

SECONDS_OF_SILENCE = 40
"""After which a machine that answers nothing is taken for lost.

By itself Linux waits for ever where nothing is sent, and a quarter of an hour where something is.
"""
SECONDS_BETWEEN_PROBES = 5
PROBES = 6
OF_CONNECTIONS = (
    ("SOL_SOCKET", "SO_KEEPALIVE", 1),
    ("IPPROTO_TCP", "TCP_KEEPIDLE", SECONDS_OF_SILENCE - SECONDS_BETWEEN_PROBES * PROBES),
    ("IPPROTO_TCP", "TCP_KEEPINTVL", SECONDS_BETWEEN_PROBES),
    ("IPPROTO_TCP", "TCP_KEEPCNT", PROBES),
    ("IPPROTO_TCP", "TCP_USER_TIMEOUT", 1000 * SECONDS_OF_SILENCE),
)
"""Level, name and value of options: the first four are for an idle connection, the last for another."""


def choose_interface(host: str | None) -> None:
    """Let gloo use the interface that leads to ``host``, unless the user has named one.

    By itself gloo takes the address that the machine's own name stands for. Where that is 127.0.0.1, or that
    of another network, the processes of other machines cannot reach it.

    Args:
        host: where the processes of the run meet; nothing happens without one.
    """
    if host and not os.environ.get(INTERFACE) and (name := interface_towards(host)):
        os.environ[INTERFACE] = name


def interface_towards(host: str) -> str | None:
    """Return the name of the interface whose IPv4 address this machine has on the way to ``host``.

    Returns:
        ``None`` where that is the loopback interface, or is not known.
    """
    if sys.platform == "linux":
        import fcntl

        with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            # Connecting a datagram socket looks up the way and sends nothing.
            probe.connect((host, 9))
            own = socket.inet_aton(probe.getsockname()[0])
            for _, name in socket.if_nameindex():
                with suppress(OSError):
                    answer = fcntl.ioctl(probe, SIOCGIFADDR, struct.pack("256s", name.encode()))
                    if answer[20:24] == own and own[0] != 127:
                        return name
    return None


def watch_connections() -> int:
    """Let the system give up the connections to machines that answer nothing for `SECONDS_OF_SILENCE`.

    All TCP connections of this process to other machines are meant; who waits at one then gets an error. The
    systems answer each other, so a process may be slow for as long as it likes. One that is stopped for
    longer, by Ctrl-Z or a debugger, is taken for lost if others send it more than its system keeps for it.

    Returns:
        The number of these connections.
    """
    if sys.platform != "linux":
        return 0
    watched = 0
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError), socket.socket(fileno=os.dup(int(number))) as connection:
            if connection.family not in (socket.AF_INET, socket.AF_INET6):
                continue
            if connection.getpeername()[0] == connection.getsockname()[0]:
                continue
            for level, option, value in OF_CONNECTIONS:
                connection.setsockopt(getattr(socket, level), getattr(socket, option), value)
            watched += 1
    return watched


def fault_of_network(error: BaseException) -> str:
    """Return what an error of torch says of a connection, in one line; empty where it speaks of none."""
    cause: BaseException | None = error
    while cause is not None:
        if found := OF_GLOO.search(str(cause)):
            return " ".join(found[1].split())
        if isinstance(cause, dist.DistNetworkError):
            return in_one_line(cause)
        cause = cause.__cause__
    return ""


@contextmanager
def loss_explained(rank: int, size: int) -> Iterator[None]:
    """Say in one line that a process of the run was lost, in place of torch's traceback.

    Raises:
        UserError: if the block fails because a connection to another process ended.
    """
    try:
        yield
    except RuntimeError as error:
        fault = fault_of_network(error)
        if not fault:
            raise
        raise UserError(
            f"process {rank} of {size} (numbers from 0) on {socket.gethostname()} has lost another one "
            f"({fault}): that process has failed, or its machine or the network has; what the others say may "
            "tell why. What was saved is kept: where nothing starts the run again by itself, do so with "
            "--resume"
        ) from error
