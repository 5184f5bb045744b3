"""The evaluator's rankings: compiled where that works, vectorised where not, fatal nowhere."""

import importlib
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nplp.evaluation.compiled import compiled_rankings
from nplp.evaluation.ranking import evaluate_rank

__all__ = ["bridge_ranking", "install_rankings"]


def bridge_ranking() -> None:
    """Replace ``compile_helper`` (``evaluation/rank_cylib/__init__.py``).

    The toolbox's runs ``make`` in site-packages with whatever ``python3`` comes first in the PATH, and
    ends the process when that fails. ``ReidEvaluator`` calls it in its constructor, on the main process,
    when it finds no compiled ranking; it now calls :func:`install_rankings`.
    """
    package: Any = importlib.import_module("fastreid.evaluation.rank_cylib")
    evaluator: Any = importlib.import_module("fastreid.evaluation.reid_evaluation")
    package.compile_helper = evaluator.compile_helper = install_rankings


def install_rankings() -> bool:
    """Give ``evaluation/rank.py`` and ``evaluation/roc.py`` the best rankings there are.

    That is the toolbox's Cython, built for this environment (which takes some 20 seconds, once), or
    where it cannot be built :func:`nplp.evaluation.ranking.evaluate_rank` in place of its Python loop.
    The ROC curve's Python stays then, and so does the CUHK03 protocol's, which draws random numbers.

    Returns:
        Whether the compiled rankings are in place.
    """
    package: Any = importlib.import_module("fastreid.evaluation.rank_cylib")
    modules = compiled_rankings(Path(str(package.__file__)).parent)
    for name, module in modules.items():
        sys.modules[module.__name__] = module
        setattr(package, name, module)
    with warnings.catch_warnings():
        # Both warn when they are imported without their compiled half; what is used is logged instead.
        warnings.filterwarnings("ignore", message="Cython .* evaluation")
        rank: Any = importlib.import_module("fastreid.evaluation.rank")
        roc: Any = importlib.import_module("fastreid.evaluation.roc")
    if modules:
        rank.evaluate_cy, rank.IS_CYTHON_AVAI = modules["rank_cy"].evaluate_cy, True
        roc.evaluate_roc_cy, roc.IS_CYTHON_AVAI = modules["roc_cy"].evaluate_roc_cy, True
    elif rank.evaluate_py.__module__ == rank.__name__:
        rank.evaluate_py = _vectorised(rank.evaluate_py)
    return bool(modules)


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
