"""The rankings of the toolbox's own evaluator, without a compiler and without loops over queries."""

import importlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from nplp.evaluation.ranking import evaluate_rank

__all__ = ["bridge_ranking", "install_rankings"]


def bridge_ranking() -> None:
    """Replace ``compile_helper`` (``evaluation/rank_cylib/__init__.py``) by :func:`install_rankings`.

    The toolbox's runs ``make`` in site-packages with whatever ``python3`` comes first in the PATH, and
    ends the process when that fails. ``ReidEvaluator`` calls it in its constructor, on the main process,
    where the toolbox's Cython was not compiled.
    """
    package: Any = importlib.import_module("fastreid.evaluation.rank_cylib")
    evaluator: Any = importlib.import_module("fastreid.evaluation.reid_evaluation")
    package.compile_helper = evaluator.compile_helper = install_rankings


def install_rankings() -> None:
    """Replace the loops of ``evaluation/rank.py`` and ``evaluation/roc.py``; a second call changes nothing.

    The loop of the CUHK03 protocol stays, as it draws random numbers.
    """
    with warnings.catch_warnings():
        # Both recommend Cython when they are imported without it.
        warnings.filterwarnings("ignore", message="Cython .* evaluation")
        rank: Any = importlib.import_module("fastreid.evaluation.rank")
        roc: Any = importlib.import_module("fastreid.evaluation.roc")
    if rank.evaluate_py.__module__ == rank.__name__:
        rank.evaluate_py = _vectorised(rank.evaluate_py)
    roc.evaluate_roc_py = _scores_and_labels


def _vectorised(loop: Callable[..., Any]) -> Callable[..., Any]:
    def evaluate_py(
        distmat: np.ndarray,
        q_pids: np.ndarray,
        g_pids: np.ndarray,
        q_camids: np.ndarray,
        g_camids: np.ndarray,
        max_rank: int,
        use_metric_cuhk03: bool,
    ) -> Any:
        if use_metric_cuhk03:
            return loop(distmat, q_pids, g_pids, q_camids, g_camids, max_rank, use_metric_cuhk03)
        return tuple(evaluate_rank(distmat, q_pids, g_pids, q_camids, g_camids, max_rank))

    return evaluate_py


def _scores_and_labels(
    distmat: np.ndarray, q_pids: np.ndarray, g_pids: np.ndarray, q_camids: np.ndarray, g_camids: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the distances of the pairs that count, and 0 for each of one person or 1 for each of two.

    Gallery images of the query's person and camera do not count. The pairs of one person come first, in the
    order of the queries; the curve does not depend on the order.
    """
    same = q_pids[:, None] == g_pids
    counts = ~(same & (q_camids[:, None] == g_camids))
    of_one, of_two = distmat[same & counts], distmat[~same]
    return np.concatenate([of_one, of_two]), np.repeat([0.0, 1.0], [len(of_one), len(of_two)])
