"""Evaluation: ranking metrics in bounded memory, with the toolbox's numbers.

Rankings, re-ranking, metrics by pairs of cameras and intervals are a plain library on arrays;
``BoundedReidEvaluator`` needs fastreid and is imported when it is first asked for.
"""

from typing import Any

from nplp.evaluation.bootstrap import bootstrap_intervals
from nplp.evaluation.camera_pairs import CameraPairs, evaluate_camera_pairs
from nplp.evaluation.protocol import NoMatchError, queries_without_match
from nplp.evaluation.ranking import (
    QueryScores,
    Ranking,
    evaluate_features,
    evaluate_rank,
    score_queries,
    summarise,
)
from nplp.evaluation.reranking import RerankedDistances, Reranking, rerank_distances

__all__ = [
    "BoundedReidEvaluator",
    "CameraPairs",
    "NoMatchError",
    "QueryScores",
    "Ranking",
    "RerankedDistances",
    "Reranking",
    "bootstrap_intervals",
    "evaluate_camera_pairs",
    "evaluate_features",
    "evaluate_rank",
    "queries_without_match",
    "rerank_distances",
    "score_queries",
    "summarise",
]


def __getattr__(name: str) -> Any:
    if name == "BoundedReidEvaluator":
        from nplp.host import require_fastreid

        require_fastreid()
        from nplp.evaluation.evaluator import BoundedReidEvaluator

        return BoundedReidEvaluator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
