"""Evaluation: ranking metrics in bounded memory, with the toolbox's numbers.

:mod:`nplp.evaluation.ranking` is a plain library on arrays; ``BoundedReidEvaluator`` needs fastreid and
is imported when it is first asked for.
"""

from typing import Any

from nplp.evaluation.ranking import (
    NoMatchError,
    Ranking,
    evaluate_features,
    evaluate_rank,
    queries_without_match,
)

__all__ = [
    "BoundedReidEvaluator",
    "NoMatchError",
    "Ranking",
    "evaluate_features",
    "evaluate_rank",
    "queries_without_match",
]


def __getattr__(name: str) -> Any:
    if name == "BoundedReidEvaluator":
        from nplp.host import require_fastreid

        require_fastreid()
        from nplp.evaluation.evaluator import BoundedReidEvaluator

        return BoundedReidEvaluator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
