"""An exponential moving average of a model's weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from fastreid.engine.train_loop import HookBase
from torch import nn

__all__ = ["WeightAverage", "WeightAverageHook"]


class WeightAverage:
    """Running average of every floating-point weight and buffer: avg <- decay avg + (1 - decay) weight.

    Early on the decay is lowered to (1 + t) / (10 + t) at step t, so that the average does not hold on
    to the weights it started from. Memory: one more copy of the model.

    What is measured of the weights after they are trained, such as statistics of features, is not averaged:
    the average has what is measured of its own weights while they are :meth:`applied`.
    """

    def __init__(self, model: nn.Module, decay: float, measured: tuple[str, ...] = ()) -> None:
        """Start the average at the model's present weights.

        Args:
            model: the model; under DistributedDataParallel the wrapped module.
            decay: what the average keeps of itself at each step, in [0, 1).
            measured: how the names of what is measured begin.

        Raises:
            ValueError: if ``decay`` is out of range.
        """
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {decay}")
        self.decay = decay
        self.steps = 0
        self._measured = measured
        self._model = model
        self._average = self._snapshot()

    def _snapshot(self) -> dict[str, torch.Tensor]:
        return {key: value.detach().clone() for key, value in self._model.state_dict().items()}

    @torch.no_grad()
    def restart(self) -> None:
        """Start again from the model's present weights."""
        self.steps = 0
        self._average = self._snapshot()

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the model's weights; integer buffers are copied."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for key, value in self._model.state_dict().items():
            if key.startswith(self._measured):
                continue
            if value.is_floating_point():
                self._average[key].lerp_(value, 1 - decay)
            else:
                self._average[key].copy_(value)
        self.steps += 1

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the model carry the averaged weights within the block.

        What is measured there stays theirs, and so do statistics of batch norms that are estimated anew.
        """
        weights = self._snapshot()
        self._model.load_state_dict(self._average)
        try:
            yield
            state = self._model.state_dict()
            self._take_measured(state)
            for key, value in self._average.items():
                value.copy_(state[key])
        finally:
            self._model.load_state_dict(weights)

    def _take_measured(self, state: dict[str, torch.Tensor]) -> None:
        """Take what was measured, of whatever shape, in the place of what was known before."""
        for key in [key for key in self._average if key.startswith(self._measured)]:
            del self._average[key]
        for key, value in state.items():
            if key.startswith(self._measured):
                self._average[key] = value.detach().clone()

    def state_dict(self) -> dict[str, object]:
        """Return the average and its number of steps."""
        return {"steps": self.steps, "average": self._average}

    def load_state_dict(self, state: dict) -> None:
        """Replace the average by a saved one."""
        self.steps = int(state["steps"])
        device = next((value.device for value in self._average.values()), None)
        self._take_measured({key: value.to(device) for key, value in state["average"].items()})
        for key, value in state["average"].items():
            if key.startswith(self._measured):
                continue
            self._average[key].copy_(value)

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the averaged weights, as ``state_dict`` of the model would."""
        return self._average


class WeightAverageHook(HookBase):
    """Updates a :class:`WeightAverage` after every step."""

    def __init__(self, average: WeightAverage) -> None:
        """Take the average to keep."""
        self._average = average

    def after_step(self) -> None:
        """Update the average."""
        self._average.update()
