"""A bar for a whole adaptation."""

from typing import Any

from fastreid.engine.train_loop import HookBase
from fastreid.utils import comm
from tqdm import tqdm

__all__ = ["WholeRun"]


class WholeRun(HookBase):
    """Shows on a terminal how far all iterations together are, in training steps."""

    trainer: Any

    def __init__(self, steps: int) -> None:
        """Take the steps of all epochs of all iterations."""
        self._steps = steps
        self._bar: tqdm | None = None

    def before_train(self) -> None:
        """Open the bar; a resumed run's begins where it goes on."""
        silent = None if comm.is_main_process() else True
        self._bar = tqdm(
            total=self._steps, initial=self.trainer.iter, desc="Adaptation", unit="step", disable=silent
        )

    def after_step(self) -> None:
        """Count a step."""
        if self._bar is not None:
            self._bar.update()

    def after_train(self) -> None:
        """Close the bar, which a run that ended early leaves unfilled."""
        if self._bar is not None:
            self._bar.close()
