"""Two processes that a signal stops while they save slowly lose nothing and end on the same bits."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resumed_runs import assert_same_results, wait_for
from tiny import tiny_options

ROOT = Path(__file__).parents[2]
DRIVER = str(Path(__file__).with_name("slow_saves.py"))
OPTIONS = {
    "NPLP.ITERATIONS": 2,
    "NPLP.STARTUP_ITERATIONS": 1,
    "NPLP.EPOCHS_PER_ITERATION": 1,
    "NPLP.STEPS_PER_EPOCH": 6,
    "NPLP.EMA": True,
    # Augmentations are then drawn by each process itself, whose generators the checkpoint must hold.
    "DATALOADER.NUM_WORKERS": 0,
}

IN_THE_SECOND_EPOCH = "step 7 begins"
"""Of two epochs of six steps each, counted from 0."""


@pytest.fixture(scope="module")
def start(source_weights, synthetic_root):
    """Start a run of two processes in a process group of its own, as a terminal does."""
    running = []

    def begin(output, *arguments):
        options = {**OPTIONS, "NPLP.SOURCE.WEIGHTS": source_weights}
        pairs = [str(word) for pair in options.items() for word in pair]
        command = [sys.executable, DRIVER, "--config-file", "configs/NPLP/quickstart.yml", "--num-gpus", "2"]
        process = subprocess.Popen(
            [*command, *arguments, *tiny_options(synthetic_root, output), *pairs],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def undisturbed_pair(start, tmp_path_factory):
    """The folder of a run of two processes that nothing disturbed."""
    output = tmp_path_factory.mktemp("pair")
    process = start(output)
    shown, _ = process.communicate(timeout=300)
    assert process.returncode == 0, shown
    return output


def to_the_group(process, number):
    os.killpg(process.pid, number)


def to_the_parent(process, number):
    process.send_signal(number)


@pytest.mark.parametrize(
    ("send", "number", "status"),
    [
        pytest.param(to_the_group, signal.SIGINT, 130, id="Ctrl-C in a terminal", marks=pytest.mark.long),
        pytest.param(to_the_parent, signal.SIGTERM, 143, id="SIGTERM to the parent"),
        pytest.param(to_the_group, signal.SIGTERM, 143, id="SIGTERM to all at once", marks=pytest.mark.long),
        pytest.param(to_the_parent, signal.SIGINT, 130, id="SIGINT to the parent", marks=pytest.mark.long),
    ],
)
def test_a_slow_save_is_waited_for_and_the_run_ends_on_the_same_bits(
    start, undisturbed_pair, tmp_path, send, number, status
):
    process = start(tmp_path)
    wait_for(IN_THE_SECOND_EPOCH, process)
    send(process, number)
    shown, _ = process.communicate(timeout=120)
    assert process.returncode == status, shown
    assert f"stopped by {number.name}" in shown
    assert "Traceback" not in shown
    saved = sorted(path.name for path in tmp_path.glob("epoch_*.pth"))
    assert any(name.startswith("epoch_0001_step_") for name in saved[1:]), saved
    assert not list(tmp_path.glob("*.part"))

    process = start(tmp_path, "--resume")
    shown, _ = process.communicate(timeout=300)
    assert process.returncode == 0, shown
    assert_same_results(tmp_path, undisturbed_pair)


def test_a_killed_run_ends_on_the_same_bits(start, undisturbed_pair, tmp_path):
    process = start(tmp_path)
    wait_for(IN_THE_SECOND_EPOCH, process)
    to_the_group(process, signal.SIGKILL)
    process.communicate(timeout=120)
    process = start(tmp_path, "--resume")
    shown, _ = process.communicate(timeout=300)
    assert process.returncode == 0, shown
    assert "after epoch 1 of 2" in shown
    assert_same_results(tmp_path, undisturbed_pair)


def test_a_second_signal_does_not_wait_for_a_slow_save(start, tmp_path):
    process = start(tmp_path)
    wait_for("step 1 begins", process)
    to_the_group(process, signal.SIGINT)
    wait_for("once more stops at once", process)
    time.sleep(1.2)
    to_the_group(process, signal.SIGINT)
    shown, _ = process.communicate(timeout=120)
    assert process.returncode == 130, shown
    assert "Traceback" not in shown
    assert not list(tmp_path.glob("epoch_*.pth"))
    assert not list(tmp_path.glob("*.part"))
