"""How a command that trains ends at Ctrl-C or a signal: with what was saved, and how to go on."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from nplp_commands.parsing import ignore_further_interrupts

__all__ = ["stoppable"]


@contextmanager
def stoppable(tool: str, advice: str) -> Iterator[None]:
    """End the process with one line where a signal has stopped the block, after its step was saved.

    Args:
        tool: the command's name, before the line.
        advice: what follows what stopped it, such as how to go on.
    """
    from fastreid.utils import comm

    from nplp.data.loaders import workers_watched
    from nplp.engine.interruption import Interrupted, stopped_by_signals

    # Around the message too, which a signal that comes twice must not cut off.
    with stopped_by_signals():
        try:
            with workers_watched():
                yield
        except Interrupted as interrupted:
            if comm.is_main_process():
                sys.stderr.write(f"\n{tool}: stopped by {interrupted}{advice}\n")
            ignore_further_interrupts()
            sys.exit(interrupted.exit_status)
