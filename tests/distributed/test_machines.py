"""Training on two machines, which torchrun brings together: it ends as on one, or says that one is lost."""

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from machines import ADDRESSES, two_machines
from tiny import tiny_options

SCRIPT = Path(__file__).parent / "torchrun_process.py"
ROOT = Path(__file__).parents[2]
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node")
MEET = (
    "--nnodes",
    "2",
    "--rdzv-backend",
    "c10d",
    "--rdzv-id",
    "test",
    "--rdzv-endpoint",
    f"{ADDRESSES[0]}:29500",
)
# Nobody says which network card is to be used.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
ENVIRONMENT.pop("GLOO_SOCKET_IFNAME", None)
AT_MOST = 150
MINUTE = 60


def training(synthetic_root, output, *pairs):
    return [
        *("--config-file", "configs/NPLP/quickstart.yml", *tiny_options(synthetic_root, output)),
        *("NPLP.ITERATIONS", "1", "NPLP.STARTUP_ITERATIONS", "1", "DATASETS.TESTS", "()", *pairs),
    ]


class Run:
    """A training that is started on both machines."""

    def __init__(self, folder: Path, words: list[str], restarts: int) -> None:
        """Start it when the block is entered.

        Args:
            folder: gets what each machine says.
            words: the script and its options.
            restarts: how often torchrun may start it again.
        """
        self._folder, self._words, self._restarts = folder, words, restarts
        self._stack = ExitStack()

    def __enter__(self):
        with ExitStack() as stack:
            self.network = stack.enter_context(two_machines())
            self.processes = []
            for number, machine in enumerate(self.network.machines):
                log = stack.enter_context(open(self._folder / f"said-{number}", "w", encoding="utf-8"))
                host = ("--rdzv-conf", f"is_host={int(number == 0)}", "--local-addr", ADDRESSES[number])
                own = ("--max-restarts", str(self._restarts), "--log-dir", str(self._folder))
                command = [*TORCHRUN, "1", *MEET, *host, *own, *self._words]
                self.processes.append(machine.start(command, log, ENVIRONMENT, ROOT))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *failure):
        self._stack.close()

    def said(self, number):
        return (self._folder / f"said-{number}").read_text(encoding="utf-8", errors="replace")

    def wait_for(self, text, number, seconds):
        """Wait until a machine has said something."""
        end = time.monotonic() + seconds
        while text not in self.said(number):
            going = self.processes[number].poll() is None and time.monotonic() < end
            assert going or text in self.said(number), self.said(number)[-3000:]
            time.sleep(0.1)


def run_on_one_machine(synthetic_root, output):
    done = subprocess.run(
        [*TORCHRUN, "2", "--standalone", "tools/train_net.py", *training(synthetic_root, output)],
        env=ENVIRONMENT,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=AT_MOST,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def labels_of(output):
    last = max(output.glob("epoch_*-*.pth"))
    return torch.as_tensor(torch.load(last, weights_only=False)["pseudo_labels"]["labels"])


def test_two_machines_end_as_one_even_where_a_process_is_killed_and_started_again(synthetic_root, tmp_path):
    words = [str(SCRIPT), str(tmp_path), *training(synthetic_root, tmp_path / "two")]
    with Run(tmp_path, words, restarts=1) as run:
        for number, process in enumerate(run.processes):
            assert process.wait(AT_MOST) == 0, run.said(number)[-3000:]
    # By process, start and stage: the first step of the training.
    began = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.glob("?-?-?")}
    assert began == {"0-0-0": "0", "1-0-0": "0", "0-1-0": "6", "1-1-0": "6", "0-1-1": "0", "1-1-1": "0"}
    run_on_one_machine(synthetic_root, tmp_path / "one")
    for name in ("source/model_final.pth", "model_final.pth"):
        one, two = (torch.load(tmp_path / folder / name)["model"] for folder in ("one", "two"))
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one), name
    one, two = (labels_of(tmp_path / folder) for folder in ("one", "two"))
    assert torch.equal(one, two)


def lost_by(run, number, seconds):
    """Return the line by which a machine says that it has lost the other."""
    run.wait_for("has lost another one", number, seconds)
    lines = [line for line in run.said(number).splitlines() if "has lost another one" in line]
    assert "Traceback" not in run.said(number).partition("has lost another one")[0]
    assert len(lines) == 1
    return lines[0]


@pytest.fixture
def long_run(synthetic_root, tmp_path):
    words = [
        "tools/train_net.py",
        *training(synthetic_root, tmp_path / "run", "NPLP.SOURCE.MAX_EPOCH", "500"),
    ]
    with Run(tmp_path, words, restarts=0) as run:
        run.wait_for("Epoch 1 of 500", 0, AT_MOST)
        yield run


def test_a_machine_that_vanishes_ends_the_run_on_the_other(long_run):
    long_run.network.machines[1].vanish()
    line = lost_by(long_run, 0, MINUTE)
    assert line.startswith("train_net: process ")
    assert f"[{ADDRESSES[1]}]" in line
    assert line.endswith("with --resume")
    assert long_run.processes[0].wait(MINUTE) == 1


@pytest.mark.long
def test_a_cable_that_is_pulled_ends_the_run_on_both(long_run):
    long_run.network.unplug(1)
    since = time.monotonic()
    for number in (0, 1):
        assert lost_by(long_run, number, since + MINUTE - time.monotonic())
