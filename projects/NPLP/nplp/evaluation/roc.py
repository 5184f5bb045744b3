"""The toolbox's points of the ROC curve, of distances that are not the toolbox's own.

Shapes: Q queries, G gallery images.
"""

import importlib
from typing import Any

import numpy as np

from nplp.evaluation.host_ranking import install_rankings
from nplp.evaluation.protocol import Labels

__all__ = ["MatrixReader", "rates_at"]

FALSE_POSITIVES = (1e-4, 1e-3, 1e-2)


class MatrixReader:
    """Keeps all distances ``[Q, G]`` float32, on which the curve is defined."""

    def __init__(self) -> None:
        self._blocks: list[np.ndarray] = []

    def read(self, distances: np.ndarray, labels: Labels) -> np.ndarray:  # noqa: ARG002
        """Return a block in float32."""
        return distances.astype(np.float32)

    def keep(self, found: np.ndarray) -> None:
        """Keep a block."""
        self._blocks.append(found)

    def matrix(self) -> np.ndarray:
        """Return all distances."""
        return np.concatenate(self._blocks)


def rates_at(matrix: np.ndarray, labels: Labels) -> dict[str, float]:
    """Return the share of true pairs that are accepted at some shares of false ones, by the toolbox's names.

    Args:
        matrix: distances ``[Q, G]``.
        labels: of the queries and the gallery.

    Memory: about 60 bytes for each pair.
    """
    install_rankings()
    roc: Any = importlib.import_module("fastreid.evaluation.roc")
    scores, kinds = roc.evaluate_roc(matrix, *labels)
    # Here, as it takes long to import, and few runs draw the curve.
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(kinds, scores)
    return {f"TPR@FPR={rate:.0e}": float(true[np.argmin(np.abs(false - rate))]) for rate in FALSE_POSITIVES}
