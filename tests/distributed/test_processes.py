"""Several processes, without a GPU."""

import datetime
import json
import os
import socket
import subprocess
import sys
import textwrap
import types
from contextlib import nullcontext

import pytest
import torch
from fastreid.utils import comm

from nplp.distributed import processes
from nplp.distributed.processes import launch
from nplp.errors import UserError

WORKER = """
    import builtins, json, os, sys, warnings
    from pathlib import Path
    import torch
    import nplp.host
    nplp.host.apply()
    from fastreid.engine import launch
    from fastreid.utils import comm
    from nplp.errors import UserError

    # A thread of gloo that frees a tensor while Python ends does the same.
    class AtPythonsEnd:
        def __del__(self):
            os.abort()

    def main(folder, fail_at):
        builtins.kept = AtPythonsEnd()
        rank = comm.get_rank()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            gathered = comm.all_gather({"rank": rank, "pad": "x" * (rank * 100)})
        facts = {
            "ranks": [item["rank"] for item in gathered],
            "local": [comm.get_local_rank(), comm.get_local_size()],
            "backend": torch.distributed.get_backend(),
        }
        Path(folder, f"{rank}.json").write_text(json.dumps(facts))
        if rank == fail_at:
            raise UserError("NPLP.ALPHA must be in (0, 1], got 1.2")
        comm.synchronize()

    if __name__ == "__main__":
        folder, fail_at = sys.argv[1], int(sys.argv[2])
        try:
            launch(main, 2, args=(folder, fail_at))
        except UserError as error:
            print("UserError:", error)
        print("initialized" if torch.distributed.is_initialized() else "left")
"""


@pytest.fixture
def worker(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(textwrap.dedent(WORKER), encoding="utf-8")

    def start(fail_at: int, **environment: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, str(script), str(tmp_path), str(fail_at)],
            env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def check_facts(folder):
    for rank in (0, 1):
        facts = json.loads((folder / f"{rank}.json").read_text(encoding="utf-8"))
        assert facts == {"ranks": [0, 1], "local": [rank, 2], "backend": "gloo"}


def test_two_processes_gather_and_a_mistake_comes_back_as_one_line(worker, tmp_path):
    printed, errors = worker(fail_at=1).communicate(timeout=120)
    check_facts(tmp_path)
    assert printed.splitlines() == ["UserError: NPLP.ALPHA must be in (0, 1], got 1.2", "left"], errors


# The evaluator's distributed test joins this way in every run.
@pytest.mark.long
def test_torchrun_workers_join(worker, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = [worker(fail_at=-1, RANK=str(rank), LOCAL_RANK=str(rank), **shared) for rank in (0, 1)]
    for process in started:
        printed, errors = process.communicate(timeout=120)
        assert printed.splitlines() == ["left"], errors
    check_facts(tmp_path)


def test_one_process_runs_in_place():
    seen = []
    launch(seen.append, 1, args=("here",))
    assert seen == ["here"]


def test_a_lone_torchrun_worker_runs_in_place(monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    seen = []
    launch(seen.append, 4, args=("here",))
    assert seen == ["here"]


def test_a_mistake_in_place_is_raised_as_it_is():
    def fail():
        raise UserError("wrong")

    with pytest.raises(UserError, match="^wrong$"):
        launch(fail, 1)


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match="at most the 2 GPUs of this machine, got 3"):
        launch(print, 3)


@pytest.mark.parametrize("dist_url", [None, "auto"])
def test_several_machines_need_an_address(dist_url):
    with pytest.raises(UserError, match="dist_url must name a host and a port for 2 machines"):
        launch(print, 1, num_machines=2, dist_url=dist_url)


@pytest.mark.parametrize("device", ["cpu", None])
def test_processes_on_the_cpu_need_no_gpus(monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: device is not None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    calls = []
    monkeypatch.setattr(processes, "run_children", lambda *args: calls.append(args))
    launch(print, 3, device=device)
    [(_, count, (*_, cuda), _)] = calls
    assert (count, cuda) == (3, False)


def test_a_gpu_by_number_is_refused_for_several_processes(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(UserError, match="MODEL.DEVICE must be 'cpu' or 'cuda' for 2 processes, got 'cuda:1'"):
        launch(print, 2, device="cuda:1")


def test_ranks_are_numbered_through_the_machines(monkeypatch):
    calls = []
    monkeypatch.setattr(processes, "run_children", lambda *args: calls.append(args))
    launch(print, 2, num_machines=3, machine_rank=1, dist_url="tcp://10.0.0.1:29500", device="cpu")
    [(_, count, (_, _, first_rank, size, per_machine, dist_url, _, _), _)] = calls
    assert (count, first_rank, size, per_machine) == (2, 2, 6, 2)
    assert dist_url == "tcp://10.0.0.1:29500"


def test_a_process_counts_from_the_first_rank_of_its_machine(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(processes, "_run_as_rank", lambda *args: calls.append(args[2:]))
    monkeypatch.setattr(processes, "begin_child", lambda *args: None)
    processes._spawned(1, print, (), 4, 6, 2, "tcp://10.0.0.1:29500", str(tmp_path), False)
    assert calls == [(5, 6, 1, "tcp://10.0.0.1:29500", False)]


@pytest.mark.parametrize(
    ("cuda", "expected"),
    [
        (False, [("gloo", 3, processes.PATIENT)]),
        (True, [("set_device", 1), ("nccl", 3, None), ("gloo", processes.PATIENT)]),
    ],
    ids=["cpu", "cuda"],
)
def test_each_machine_gets_its_group_and_all_is_left_tidy(monkeypatch, cuda, expected):
    """On CUDA processes wait for each other through gloo, as NCCL ends those that wait for long."""
    events = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: events.append(("set_device", number)))

    def gather(found, own):
        # Two machines of two processes, told apart by their first ranks.
        found[:] = [0, 0, 2, 2]
        assert own == 2

    def new_group(ranks=None, backend=None, timeout=None):
        events.append(ranks or (backend, timeout))
        return tuple(ranks) if ranks else "patient"

    monkeypatch.setenv("MASTER_ADDR", "10.0.0.1")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    monkeypatch.setattr(processes, "choose_interface", lambda host: events.append(host))
    monkeypatch.setattr(processes, "agree_on_start", lambda *_: ("a start", 2))
    monkeypatch.setattr(processes, "watch_connections", lambda: events.append("watched"))
    fake = types.SimpleNamespace(
        init_process_group=lambda backend, **kwargs: events.append(
            (backend, kwargs["rank"], kwargs["timeout"])
        ),
        rendezvous=lambda *_, **__: iter([(None, 3, 4)]),
        PrefixStore=lambda *_: None,
        DistError=RuntimeError,
        all_gather_object=gather,
        new_group=new_group,
        group=types.SimpleNamespace(WORLD="world"),
        barrier=lambda group: events.append(("barrier", group)),
        destroy_process_group=lambda: events.append("left"),
    )
    monkeypatch.setattr(processes, "dist", fake)
    monkeypatch.setattr(processes, "places_told", lambda *_: nullcontext())
    toolbox_group = comm._get_global_gloo_group

    def main_func():
        events.append((comm._LOCAL_PROCESS_GROUP, comm._get_global_gloo_group()))

    processes._run_as_rank(main_func, (), 3, 4, 1, "env://", cuda)
    patient = "patient" if cuda else "world"
    groups = [*expected, [0, 1], [2, 3]]
    if cuda:
        groups.insert(1, "10.0.0.1")
    else:
        groups.insert(0, "10.0.0.1")
    assert events == [*groups, "watched", ((2, 3), patient), ("barrier", patient), "left"]
    # Another machine's process had failed: this one's torchrun has not counted it.
    assert os.environ["TORCHELASTIC_RESTART_COUNT"] == "2"
    assert comm._LOCAL_PROCESS_GROUP is None
    assert comm._get_global_gloo_group is toolbox_group


@pytest.mark.parametrize("machine_rank", [0, 1])
def test_a_machine_that_waits_in_vain_says_for_whom(monkeypatch, capsys, machine_rank):
    monkeypatch.setattr(processes, "TIME_TO_JOIN", datetime.timedelta(seconds=2))
    monkeypatch.setattr(processes, "TIME_TO_WONDER", 0.5)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(UserError, match=f"process {machine_rank} of 2 .* in vain for 0:00:02") as caught:
        processes._run_as_rank(print, (), machine_rank, 2, 0, url, False)
    assert url in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "start the same command on every machine" in capsys.readouterr().err


def test_threads_are_shared_between_processes(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    chosen = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    monkeypatch.setattr(processes, "begin_child", lambda *args: None)
    processes._spawned(0, print, (), 0, 1, 3, "", "", False)
    assert chosen == [2]
