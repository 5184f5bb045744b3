"""Runs a script once for each rank of a gloo group, for the tests of distributed training."""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import distributed

from nplp.distributed.children import end_child

WORLD_SIZE = 2
PATIENCE = 250
"""Seconds for all ranks together."""


def run_ranks(script: Path, folder: Path, weights_only: bool = True) -> list[Any]:
    """Run ``script RANK WORLD_SIZE FOLDER`` for each rank and return what each saved as ``RANK.pt``.

    With ``weights_only`` false that may be any object.
    """
    said = [folder / f"{rank}.stderr" for rank in range(WORLD_SIZE)]
    modules = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": modules}
    command = [sys.executable, "-X", "faulthandler", str(script)]
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("wb")) for path in said]
        processes = [
            subprocess.Popen(
                [*command, str(rank), str(WORLD_SIZE), str(folder)],
                env=environment,
                stderr=file,
            )
            for rank, file in enumerate(files)
        ]
        stack.callback(lambda: [process.kill() for process in processes])
        end = time.monotonic() + PATIENCE
        # A rank that fails leaves the others waiting: the first failure ends them all.
        while None in (codes := [process.poll() for process in processes]) and not any(codes):
            if time.monotonic() > end:
                # They then say where each of them waits.
                for process in processes:
                    process.send_signal(signal.SIGABRT)
                    process.wait()
            time.sleep(0.05)
    errors = "\n".join(f"rank {rank}: {path.read_text(errors='replace')}" for rank, path in enumerate(said))
    assert not any(codes), errors
    return [torch.load(folder / f"{rank}.pt", weights_only=weights_only) for rank in range(WORLD_SIZE)]


def leave() -> NoReturn:
    """End a rank's script as `nplp.distributed.processes.launch` ends a process: no rank before the others.

    One that leaves while another's last exchange goes on can keep that one waiting for ever.
    """
    distributed.barrier()
    distributed.destroy_process_group()
    end_child()
