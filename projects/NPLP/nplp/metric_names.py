"""The names under which results are shown and kept."""

__all__ = ["METRICS", "RANKS", "STAGES", "TEST_DISTANCES"]

RANKS = (1, 5, 10)
METRICS = (*(f"Rank-{rank}" for rank in RANKS), "mAP", "mINP")
"""In percent, in the order of the tables."""

STAGES = {
    "direct_transfer": "Direct transfer",
    "startup": "End of startup",
    "final": "Final",
    "final_ema": "Final, averaged weights",
}
"""Entries of ``results.json`` and their titles."""

TEST_DISTANCES = ("euclidean", "cosine")
"""Values of ``TEST.METRIC``: the distance of features by which a gallery is ranked."""
