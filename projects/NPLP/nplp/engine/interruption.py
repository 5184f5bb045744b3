"""Signals that ask a run to stop: the step is finished and saved first, anything else ends at once."""

import math
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from nplp.distributed.children import SIGNALS
from nplp.distributed.collectives import largest

__all__ = ["SIGNALS", "Interrupted", "Interruption", "finished_first", "stopped_by_signals"]

_ONE_SIGNAL = 1.0
"""Seconds within which signals count as one: a batch system may tell parent and children at once."""


class Interrupted(BaseException):
    """A signal asked to stop. Not an ``Exception``: nothing but the tools should catch it.

    Attributes:
        signum: the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum

    @property
    def exit_status(self) -> int:
        """What a shell reports for the signal: 130 for SIGINT, 143 for SIGTERM."""
        return 128 + self.signum


class Interruption:
    """The signal that arrived while a block is being finished, if any."""

    def __init__(self) -> None:
        self.signum = 0
        self.when = -math.inf
        self.deferred = 0

    def agreed(self) -> bool:
        """Tell whether a signal arrived, in any process of the run; all processes must call this."""
        self.signum = largest(self.signum)
        return bool(self.signum)


_interruption = Interruption()


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise `Interrupted`, at once or at the end of a `finished_first` block.

    A second signal does not wait. The handlers there were are put back at the end.
    """
    before = {number: signal.signal(number, _handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _interruption.signum = _interruption.deferred = 0
        _interruption.when = -math.inf


def _handle(signum: int, frame: FrameType | None) -> None:
    del frame
    now = time.monotonic()
    if now - _interruption.when < _ONE_SIGNAL:
        return
    _interruption.when = now
    if not _interruption.deferred or _interruption.signum:
        raise Interrupted(signum)
    _interruption.signum = signum
    sys.stderr.write("\nStopping after this step, to save it; once more stops at once\n")


@contextmanager
def finished_first() -> Iterator[Interruption]:
    """Finish the block before a signal takes effect.

    In several processes, what all of them must do alike ends with `Interruption.agreed`: the others would
    wait for a process that leaves alone.

    Raises:
        Interrupted: at the end of the block, if a signal arrived meanwhile.
    """
    _interruption.deferred += 1
    try:
        yield _interruption
    finally:
        _interruption.deferred -= 1
    if _interruption.signum:
        raise Interrupted(_interruption.signum)
