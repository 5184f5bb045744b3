"""Processes that were spawned: one that fails or is stopped, and what becomes of the others."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import types

import pytest
import torch

from nplp.distributed import children
from nplp.distributed.children import protected_from_ending
from nplp.errors import UserError

WORKER = """
    import json, os, signal, sys, time
    from pathlib import Path
    import torch.distributed.distributed_c10d as c10d
    from datetime import timedelta
    # Both are minutes; a test does not wait for them.
    c10d.default_pg_timeout = timedelta(seconds=2)
    from nplp.distributed.processes import launch
    from nplp.errors import UserError

    def rank_of():
        from fastreid.utils import comm
        return comm.get_rank()

    def slow_save(folder):
        import torch
        from nplp.files import save_atomically
        write = torch.save
        def slowly(data, file):
            (folder / "saving").touch()
            time.sleep(3)
            write(data, file)
        torch.save = slowly
        save_atomically({"a": 1}, folder / "saved.pth")

    def another_leaves(folder):
        if rank_of() == 0:
            slow_save(folder)
        else:
            while not (folder / "saving").exists():
                time.sleep(0.01)
            os._exit(7)

    def main_works_long(folder):
        from nplp.distributed.collectives import from_main_process
        def work():
            time.sleep(5)
            return "done"
        (folder / f"{rank_of()}.json").write_text(json.dumps(from_main_process(work)))

    def main_dies(folder):
        from nplp.distributed.collectives import from_main_process
        begin = time.monotonic()
        (folder / f"begun-{rank_of()}").touch()

        def die():
            # Not while the other still joins, which ends otherwise.
            while not (folder / "begun-1").exists():
                time.sleep(0.05)
            os._exit(9)

        try:
            from_main_process(die)
        except RuntimeError as error:
            facts = {"error": str(error), "seconds": time.monotonic() - begin}
            (folder / "1.json").write_text(json.dumps(facts))
            raise

    class Aborts:
        def __del__(self, abort=os.abort):
            abort()

    def on_the_cpu(folder):
        from fastreid.utils import comm
        import torch
        # As a thread of gloo might do while Python ends.
        globals()["ends_badly"] = Aborts()
        facts = [torch.distributed.get_backend(), comm.all_gather(comm.get_local_rank())]
        comm.synchronize()
        (folder / f"{rank_of()}.json").write_text(json.dumps(facts))

    if sys.argv[1] == "on_the_cpu":
        import torch
        torch.cuda.is_available, torch.cuda.device_count = lambda: True, lambda: 1

    def sleeps(folder):
        (folder / f"begun-{rank_of()}").touch()
        time.sleep(60)

    if __name__ == "__main__":
        folder = Path(sys.argv[2])
        print("launching", flush=True)
        try:
            launch(globals()[sys.argv[1]], 2, args=(folder,), **json.loads(os.environ.get("OPTIONS", "{}")))
        except UserError as error:
            print("UserError:", error)
"""


@pytest.fixture
def worker(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(textwrap.dedent(WORKER), encoding="utf-8")
    started = []

    def start(function, **environment):
        process = subprocess.Popen(
            [sys.executable, str(script), function, str(tmp_path)],
            env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def test_a_process_that_writes_is_not_ended_because_another_one_left(worker, tmp_path):
    process = worker("another_leaves")
    process.communicate(timeout=120)
    assert process.returncode == 7
    assert (tmp_path / "saved.pth").exists()
    assert not list(tmp_path.glob("*.part"))


def test_the_main_process_may_work_longer_than_any_limit(worker, tmp_path):
    process = worker("main_works_long")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)] == ["done", "done"]


def test_processes_on_the_cpu_use_gloo_where_there_is_cuda_and_end_well(worker, tmp_path):
    process = worker("on_the_cpu", OPTIONS='{"device": "cpu"}')
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)] == 2 * [["gloo", [0, 1]]]


def test_the_end_runs_what_waits_for_it_and_nothing_more():
    script = """
        import atexit, os
        from nplp.distributed.children import end_child

        class Aborts:
            def __del__(self, abort=os.abort):
                abort()

        kept = Aborts()
        atexit.register(print, "the end")
        end_child()
        print("never")
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "the end\n"), done.stderr


def test_a_main_process_that_died_is_noticed_at_once(worker, tmp_path):
    """By its closed connections: a worker of torchrun has no parent of ours to notice it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    started = [worker("main_dies", RANK=str(rank), LOCAL_RANK=str(rank), **shared) for rank in (0, 1)]
    _, (printed, _) = (process.communicate(timeout=120) for process in started)
    assert started[0].returncode == 9
    assert "process 1 of 2 (numbers from 0) on " in printed
    assert "has lost another one" in printed
    facts = json.loads((tmp_path / "1.json").read_text())
    assert facts["error"] == "process 1 waited for the main process, which has ended"
    assert facts["seconds"] < 20


@pytest.mark.parametrize(
    ("number", "status", "group", "moment"),
    [
        pytest.param(signal.SIGINT, 130, True, "while they start"),
        pytest.param(signal.SIGTERM, 143, False, "while they work"),
        pytest.param(signal.SIGTERM, 143, False, "while they start", marks=pytest.mark.long),
        pytest.param(signal.SIGINT, 130, True, "while they work", marks=pytest.mark.long),
    ],
)
def test_a_signal_ends_all_processes_with_its_status(worker, tmp_path, number, status, group, moment):
    process = worker("sleeps")
    assert process.stdout.readline() == "launching\n"
    time.sleep(0.5)
    while moment == "while they work" and not all((tmp_path / f"begun-{rank}").exists() for rank in (0, 1)):
        time.sleep(0.1)
    if group:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == status, errors
    assert "Traceback" not in errors


class Ended:
    """A process that has ended."""

    def __init__(self, exitcode):
        self.exitcode = exitcode


@pytest.mark.parametrize(
    ("codes", "told", "status"),
    [
        ([1, 143], [], 143),
        ([143, 143], [signal.SIGTERM], 143),
        ([-15, -15], [signal.SIGTERM], 143),
        ([1, 1], [signal.SIGINT], 130),
    ],
)
def test_a_signal_in_any_process_is_the_status_of_all(tmp_path, codes, told, status):
    processes = [Ended(code) for code in codes]
    context = types.SimpleNamespace(processes=processes)
    with pytest.raises(SystemExit) as caught:
        children._report(processes[0], context, tmp_path, told)
    assert caught.value.code == status


def test_the_mistake_that_a_process_told_comes_before_all(tmp_path):
    context = types.SimpleNamespace(processes=[Ended(1), Ended(143)])
    children.report_to_parent(UserError("NPLP.ALPHA must be in (0, 1], got 1.2"), str(tmp_path), 1)
    with pytest.raises(UserError, match="got 1.2"):
        children._report(context.processes[0], context, tmp_path, [])


class Stuck(Ended):
    """A process that ends when it is asked to, if it obeys, and when it is killed."""

    def __init__(self, exitcode, obeys=False):
        super().__init__(exitcode)
        self.sentinel, _ = os.pipe()
        self.obeys, self.asked, self.killed = obeys, 0, 0

    def is_alive(self):
        return not self.killed and not (self.asked and self.obeys)

    def terminate(self):
        self.asked += 1

    def kill(self):
        self.killed += 1

    def join(self):
        pass


def test_one_that_does_not_leave_is_asked_and_then_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(children, "TIME_TO_OBEY", 0.2)
    monkeypatch.setattr(children, "POLL", 0.02)
    failed, stuck, obedient = Ended(7), Stuck(None), Stuck(None, obeys=True)
    failed.is_alive, failed.join = lambda: False, lambda: None
    children._end_others(failed, [failed, stuck, obedient], tmp_path)
    assert (stuck.asked, stuck.killed) == (1, 1)
    assert (obedient.asked, obedient.killed) == (1, 0)


def test_in_a_process_of_its_own_a_block_needs_no_peace():
    with protected_from_ending():
        pass


@pytest.mark.parametrize("status", [1, -9])
def test_a_killed_process_is_named_rather_than_what_the_others_say_of_it(tmp_path, status):
    children.report_to_parent(UserError("process 1 has lost another one"), str(tmp_path), 1)
    failed = types.SimpleNamespace(exitcode=status, sentinel=5)

    def join():
        raise torch.multiprocessing.ProcessExitedException("killed", 0, 1, 9, "SIGKILL")

    context = types.SimpleNamespace(processes=[failed], join=join)
    expected = UserError if status == 1 else torch.multiprocessing.ProcessExitedException
    with pytest.raises(expected):
        children._report(failed, context, tmp_path, [])
