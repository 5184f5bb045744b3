"""The interface that leads to other machines, and connections to machines that are lost."""

import os
import socket
import sys

import pytest
import torch.distributed as dist

from nplp.distributed import network
from nplp.distributed.network import (
    SECONDS_OF_SILENCE,
    choose_interface,
    fault_of_network,
    interface_towards,
    loss_explained,
    watch_connections,
)
from nplp.errors import UserError

linux = pytest.mark.skipif(sys.platform != "linux", reason="connections are looked at on Linux alone")
CLOSED = (
    "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer [10.0.0.2]:58583. "
    "This is typically caused by a remote worker crashing."
)
OLDER = "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.0.0.2]:58583"
UNEQUAL = "[enforce fail at /pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:446] op.nbytes. 8 vs 4"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "no such host"])
def test_the_loopback_and_the_unknown_are_no_interface(host):
    assert interface_towards(host) is None


@linux
def test_a_machines_own_address_is_at_its_interface(monkeypatch):
    monkeypatch.setattr(socket.socket, "getsockname", lambda _: ("10.0.0.1", 9))
    answers = {"eth0": "192.168.0.1", "eth1": "10.0.0.1"}
    monkeypatch.setattr(socket, "if_nameindex", lambda: enumerate(answers))

    def address(_, request, name):
        return b"\0" * 20 + socket.inet_aton(answers[name.rstrip(b"\0").decode()]) + b"\0" * 8

    monkeypatch.setattr("fcntl.ioctl", address)
    assert interface_towards("127.0.0.1") == "eth1"


@pytest.mark.parametrize(("named", "used"), [(None, "eth1"), ("eth7", "eth7")])
def test_an_interface_that_the_user_names_stays(monkeypatch, named, used):
    monkeypatch.setattr(network, "interface_towards", lambda _: "eth1")
    # Taken back at the end, whatever is set meanwhile.
    monkeypatch.setenv(network.INTERFACE, named or "")
    choose_interface(None)
    assert os.environ[network.INTERFACE] == (named or "")
    choose_interface("10.0.0.1")
    assert os.environ[network.INTERFACE] == used


@linux
@pytest.mark.parametrize("own", [True, False], ids=["of this machine", "of another"])
def test_connections_to_other_machines_are_given_up_after_a_silence(own):
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        if not own:
            client.bind(("127.0.0.2", 0))
        before = watch_connections()
        client.connect(server.getsockname())
        peer, _ = server.accept()
        with peer:
            assert watch_connections() - before == (0 if own else 2)
            limit = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            assert limit == (0 if own else 1000 * SECONDS_OF_SILENCE)
            assert client.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == (not own)
            idle, pause, probes = (
                client.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            )
            assert (idle + pause * probes == SECONDS_OF_SILENCE) == (not own)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError(CLOSED), "Connection closed by peer [10.0.0.2]:58583"),
        (RuntimeError(OLDER), "Connection closed by peer [10.0.0.2]:58583"),
        (dist.DistNetworkError("Failed to recv,\ngot 0 bytes"), "Failed to recv, got 0 bytes"),
        (RuntimeError(UNEQUAL), ""),
        (RuntimeError("out of memory"), ""),
    ],
)
def test_what_is_said_of_a_connection(error, said):
    assert fault_of_network(error) == said
    outer = RuntimeError("process 1 waited for the main process, which has ended")
    outer.__cause__ = error
    assert fault_of_network(outer) == said


def test_a_lost_process_is_one_line_and_another_error_stays():
    with (
        pytest.raises(
            UserError, match=r"^process 1 of 4 .* has lost another one \(Connection closed"
        ) as caught,
        loss_explained(1, 4),
    ):
        raise RuntimeError(CLOSED)
    assert "\n" not in str(caught.value)
    with pytest.raises(RuntimeError, match="of memory") as caught, loss_explained(1, 4):
        raise RuntimeError("out of memory")
    assert not isinstance(caught.value, UserError)
