"""Runs train_net with saves that take three seconds once a signal asked to stop; run by a test.

A new process imports this module again and finds `main`, so that all of them are slow.
"""

import argparse
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
import train_net

SECONDS = 3.0
train = train_net.main


def main(args: argparse.Namespace) -> None:
    """Train, and save slowly after a signal."""
    from nplp.engine.interruption import _present

    write = torch.save

    def slowly(data: object, file: object, **options: object) -> None:
        # With options it is not a file: tensors are pickled so, for another process.
        if _present.signum and not options:
            time.sleep(SECONDS)
        write(data, file, **options)

    torch.save = slowly
    train(args)


if __name__ == "__main__":
    train_net.main = main
    train_net.command_line()
