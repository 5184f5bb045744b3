"""Runs train_net with slow steps, and saves of three seconds once a signal asked to stop; run by a test.

A new process imports this module again and finds `run_process`, so that all of them are slow.
"""

import argparse
import sys
import time

import torch

from nplp_commands import train as command

SECONDS = 3.0
train = command.run_process


def run_process(args: argparse.Namespace) -> None:
    """Train; say when a step begins, and save slowly after a signal."""
    from fastreid.utils import comm

    from nplp.engine.interruption import _interruption
    from nplp.engine.trainer import ReidTrainer

    write, run_step = torch.save, ReidTrainer._run_step

    def told(trainer: ReidTrainer, step: int) -> None:
        if comm.is_main_process():
            sys.stdout.write(f"step {trainer.iter} begins\n")
            sys.stdout.flush()
            time.sleep(0.1)
        run_step(trainer, step)

    def slowly(data: object, file: object, **options: object) -> None:
        # With options it is not a file: tensors are pickled so, for another process.
        if _interruption.signum and not options:
            time.sleep(SECONDS)
        write(data, file, **options)

    torch.save, ReidTrainer._run_step = slowly, told
    train(args)


if __name__ == "__main__":
    command.run_process = run_process
    command.command_line()
