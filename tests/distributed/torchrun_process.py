"""A command that trains, one of whose processes is killed within a step; run by a test.

Usage: torchrun_process.py FOLDER OPTIONS_OF_THE_COMMAND; FOLDER gets the step at which each start begins.
"""

import os
import signal
import sys
from pathlib import Path

from nplp.engine.trainer import ReidTrainer
from nplp_commands.train import command_line

KILLED_AT = 7
"""The step of the pre-training, of 6 an epoch."""


def main() -> None:
    """Run the command."""
    folder = Path(sys.argv.pop(1))
    step, begin = ReidTrainer.run_step, ReidTrainer.train

    def restart() -> str:
        return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")

    def train(trainer: ReidTrainer) -> None:
        (folder / f"{os.environ['RANK']}-{restart()}-{trainer.stage}").write_text(
            str(trainer.start_iter), encoding="utf-8"
        )
        begin(trainer)

    def run_step(trainer: ReidTrainer) -> None:
        if restart() == "0" and os.environ["RANK"] == "1" and trainer.iter == KILLED_AT:
            os.kill(os.getpid(), signal.SIGKILL)
        step(trainer)

    ReidTrainer.train, ReidTrainer.run_step = train, run_step
    command_line()


if __name__ == "__main__":
    main()
