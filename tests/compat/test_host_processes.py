"""Several processes, without a GPU."""

import json
import os
import socket
import subprocess
import sys
import textwrap
import types

import pytest
import torch
import torch.multiprocessing as mp
from fastreid import engine
from fastreid.utils import comm

from nplp.compat import launch, processes
from nplp.errors import UserError

WORKER = """
    import json, sys, warnings
    from pathlib import Path
    import torch
    import nplp.compat
    nplp.compat.apply()
    from fastreid.engine import launch
    from fastreid.utils import comm
    from nplp.errors import UserError

    def main(folder, fail_at):
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


def test_ranks_are_numbered_through_the_machines(monkeypatch):
    calls = []

    def spawn(function, nprocs, args, join):
        calls.append((nprocs, args))
        return types.SimpleNamespace(processes=[], join=lambda: True)

    monkeypatch.setattr(mp, "spawn", spawn)
    launch(print, 2, num_machines=3, machine_rank=1, dist_url="tcp://10.0.0.1:29500")
    [(nprocs, (_, _, first_rank, size, per_machine, dist_url, _))] = calls
    assert (nprocs, first_rank, size, per_machine) == (2, 2, 6, 2)
    assert dist_url == "tcp://10.0.0.1:29500"


def test_a_process_counts_from_the_first_rank_of_its_machine(monkeypatch):
    calls = []
    monkeypatch.setattr(processes, "_run_as_rank", lambda *args: calls.append(args[2:]))
    processes._spawned(1, print, (), 4, 6, 2, "tcp://10.0.0.1:29500", "")
    assert calls == [(5, 6, 1, "tcp://10.0.0.1:29500")]


def test_each_machine_gets_its_group_and_all_is_left_tidy(monkeypatch):
    events = []

    def gather(found, own):
        # Two machines of two processes, told apart by their first ranks.
        found[:] = [0, 0, 2, 2]
        assert own == 2

    fake = types.SimpleNamespace(
        init_process_group=lambda backend, **kwargs: events.append((backend, kwargs["rank"])),
        all_gather_object=gather,
        new_group=lambda ranks: events.append(ranks) or tuple(ranks),
        destroy_process_group=lambda: events.append("left"),
    )
    monkeypatch.setattr(processes, "dist", fake)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    processes._run_as_rank(
        lambda: events.append(comm._LOCAL_PROCESS_GROUP), (), rank=3, size=4, local_rank=1, dist_url="env://"
    )
    assert events == [("gloo", 3), [0, 1], [2, 3], (2, 3), "left"]
    assert comm._LOCAL_PROCESS_GROUP is None


def test_the_status_of_a_process_becomes_ours(monkeypatch):
    def spawn(*args, **kwargs):
        raise mp.ProcessExitedException("ended", 0, 11, exit_code=2)

    monkeypatch.setattr(mp, "spawn", spawn)
    with pytest.raises(SystemExit) as caught:
        launch(print, 2)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    "error",
    [
        mp.ProcessExitedException("killed", 0, 11, exit_code=-9, signal_name="SIGKILL"),
        mp.ProcessRaisedException("Traceback ...", 0, 11),
    ],
)
def test_other_ends_are_not_hidden(monkeypatch, error):
    def spawn(*args, **kwargs):
        raise error

    monkeypatch.setattr(mp, "spawn", spawn)
    with pytest.raises(type(error)):
        launch(print, 2)


def test_threads_are_shared_between_processes(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    chosen = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    processes._spawned(0, print, (), 0, 1, 3, "", "")
    assert chosen == [2]


def test_a_repaired_launcher_is_left_alone(monkeypatch):
    module = sys.modules["fastreid.engine.launch"]

    def repaired(local_rank):
        return local_rank

    monkeypatch.setattr(module, "_distributed_worker", repaired)
    monkeypatch.setattr(module, "launch", repaired)
    monkeypatch.setattr(engine, "launch", repaired)
    assert processes.bridge_launch() is False
    assert engine.launch is repaired
