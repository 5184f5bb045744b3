"""What an iteration's pseudo-labels are, for ``metrics.json`` and TensorBoard."""

from typing import Any

import numpy as np
import torch
from fastreid.utils.events import get_event_storage

__all__ = ["log_labels"]

BINS = 50


def log_labels(line: dict[str, Any], labels: np.ndarray, scores: np.ndarray, step: int) -> None:
    """Put an iteration's numbers, and histograms of cluster sizes and scores, into the toolbox's log.

    Nothing happens where no log is open.

    Args:
        line: the iteration's line of ``pseudo_labels.jsonl``.
        labels: ``[N]`` integers, -1 for outliers.
        scores: ``[c]`` self-assessment scores; may be empty.
        step: the first training step of the iteration.
    """
    try:
        storage = get_event_storage()
    except AssertionError:  # how the toolbox says that none is
        return
    storage.iter = step
    numbers = {key: float(value) for key, value in line.items() if isinstance(value, int | float)}
    storage.put_scalars(**{f"labels/{key}": value for key, value in numbers.items()}, smoothing_hint=False)
    for name, values in (("cluster_sizes", np.bincount(labels[labels >= 0])), ("self_assessment", scores)):
        # The toolbox cannot draw a histogram of equal values.
        if len(values) and values.min() < values.max():
            storage.put_histogram(f"labels/{name}", torch.from_numpy(values.astype(np.float32)), BINS)
