"""The names under which results are shown and kept."""

__all__ = [
    "INTERVAL",
    "METRICS",
    "RANKS",
    "RERANKINGS",
    "RERANK_PAPER",
    "RERANK_TOOLBOX",
    "STAGES",
    "TEST_DISTANCES",
]

RANKS = (1, 5, 10)
METRICS = (*(f"Rank-{rank}" for rank in RANKS), "mAP", "mINP")
"""In percent, in the order of the tables."""

INTERVAL = " interval"
"""The end of the name of a metric's interval, ``[low, high]`` in percent, such as ``mAP interval``."""

STAGES = {
    "direct_transfer": "Direct transfer",
    "startup": "End of startup",
    "final": "Final",
    "final_ema": "Final, averaged weights",
}
"""Entries of ``results.json`` and their titles."""

TEST_DISTANCES = ("euclidean", "cosine")
"""Values of ``TEST.METRIC``: the distance of features by which a gallery is ranked."""

RERANK_TOOLBOX, RERANK_PAPER = RERANKINGS = ("toolbox", "paper")
"""Values of ``TEST.RERANK_FORM``, explained in ``nplp.evaluation.reranking``."""
