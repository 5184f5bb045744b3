"""What goes into ``metrics.json`` and TensorBoard beside the toolbox's own scalars, and when."""

from typing import Any

import numpy as np
import torch
from fastreid.engine import hooks
from fastreid.utils.events import get_event_storage

__all__ = ["EpochWriter", "log_histograms", "log_line"]

BINS = 50


class EpochWriter(hooks.PeriodicWriter):
    """Writes every ``period`` steps and once at the end of each epoch.

    The toolbox's hook may write at an epoch's last step and then at the epoch's end, and its writers keep
    one line a step: what is logged at the epoch's end, evaluation and pseudo-labels, would be lost.
    """

    def after_step(self) -> None:
        """Write if it is time, and the epoch's end does not follow at once."""
        if self.trainer.step + 1 < self.trainer.steps_per_epoch:
            super().after_step()


def log_line(line: dict[str, Any]) -> None:
    """Put the numbers of an iteration's line of ``pseudo_labels.jsonl`` into the open log of the toolbox.

    At the iteration's end, with its losses and its evaluation: a run that is resumed within it has them too.
    """
    numbers = {key: float(value) for key, value in line.items() if isinstance(value, int | float)}
    get_event_storage().put_scalars(
        **{f"labels/{key}": value for key, value in numbers.items()}, smoothing_hint=False
    )


def log_histograms(labels: np.ndarray, scores: np.ndarray, step: int) -> None:
    """Put the sizes of clusters and their scores into the toolbox's log; nothing happens where none is open.

    Args:
        labels: ``[N]`` integers, -1 for outliers.
        scores: ``[c]`` self-assessment scores; may be empty.
        step: the first training step of the iteration.
    """
    try:
        storage = get_event_storage()
    except AssertionError:  # how the toolbox says that none is
        return
    storage.iter = step
    for name, values in (("cluster_sizes", np.bincount(labels[labels >= 0])), ("self_assessment", scores)):
        # The toolbox cannot draw a histogram of equal values.
        if len(values) and values.min() < values.max():
            storage.put_histogram(f"labels/{name}", torch.from_numpy(values.astype(np.float32)), BINS)
