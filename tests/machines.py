"""Machines for tests: each has a network and process numbers of its own, and a switch joins two of them.

Each is made of Linux namespaces that have no name and last as long as its first process. That one ends with
the test's own process, however it ends: nothing is left behind, and parallel tests do not meet.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import pytest

from nplp.distributed.processes import end_with_parent

ADDRESSES = ("10.77.0.1", "10.77.0.2")
CARD = "eth0"
PROGRAMS = ("ip", "nsenter", "unshare")


class Machine:
    """A machine that runs commands until it vanishes."""

    def __init__(self) -> None:
        """Start it, without a network yet.

        Raises:
            OSError: if this system does not allow it.
        """
        self._first = subprocess.Popen(
            [
                "unshare",
                "--net",
                "--pid",
                "--fork",
                "--kill-child",
                "sh",
                "-c",
                "echo up; exec sleep infinity",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=partial(end_with_parent, signal.SIGKILL),
        )
        assert self._first.stdout is not None
        if self._first.stdout.readline() != "up\n":
            raise OSError(self._first.communicate()[1].strip())

    @property
    def pid(self) -> int:
        """Return the number of a process that has the machine's network."""
        return self._first.pid

    def start(
        self, command: Sequence[str], log: IO[str], environment: Mapping[str, str], folder: Path
    ) -> subprocess.Popen:
        """Start a command on the machine; it ends with it.

        Args:
            command: its words.
            log: gets all that it says.
            environment: its variables.
            folder: where it runs.
        """
        spaces = f"/proc/{self.pid}/ns"
        enter = ["nsenter", f"--net={spaces}/net", f"--pid={spaces}/pid_for_children"]
        return subprocess.Popen(
            [*enter, *command], stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=folder
        )

    def ip(self, words: str) -> None:
        """Run ``ip`` on the machine.

        Raises:
            OSError: with what it said, if it fails.
        """
        command = ["nsenter", f"--net=/proc/{self.pid}/ns/net", "ip", *words.split()]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(f"ip {words}: {done.stderr.strip()}")

    def vanish(self) -> None:
        """Kill all of its processes at once."""
        self._first.kill()
        self._first.communicate()


class Network:
    """Two machines, and the switch between them: what is unplugged there is not seen by the other machine."""

    def __init__(self, stack: ExitStack) -> None:
        """Start and join them.

        Args:
            stack: ends them when it is closed.

        Raises:
            OSError: if this system does not allow it.
        """
        self._switch, *self.machines = (self._machine(stack) for _ in range(1 + len(ADDRESSES)))
        self._switch.ip("link add bridge type bridge")
        self._switch.ip("link set bridge up")
        for number, (machine, address) in enumerate(zip(self.machines, ADDRESSES, strict=True)):
            machine.ip(f"link add {CARD} type veth peer name port{number} netns {self._switch.pid}")
            machine.ip(f"addr add {address}/24 dev {CARD}")
            machine.ip("link set lo up")
            machine.ip(f"link set {CARD} up")
            self._switch.ip(f"link set port{number} master bridge up")

    @staticmethod
    def _machine(stack: ExitStack) -> Machine:
        machine = Machine()
        stack.callback(machine.vanish)
        return machine

    def unplug(self, number: int) -> None:
        """Pull a machine's cable out of the switch."""
        self._switch.ip(f"link set port{number} down")


@contextmanager
def two_machines() -> Iterator[Network]:
    """Yield two machines that are joined; skip the test where they cannot be made, and say why."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if sys.platform != "linux" or missing:
        pytest.skip(
            f"machines are namespaces of Linux, made by {', '.join(PROGRAMS)}, which are not all here"
        )
    if os.geteuid():
        pytest.skip("only root makes machines of namespaces")
    with ExitStack() as stack:
        try:
            network = Network(stack)
        except OSError as error:
            pytest.skip(f"this system makes no machines of namespaces: {error}")
        yield network
