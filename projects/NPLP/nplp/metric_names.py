"""The names under which results are shown and kept: the metrics, and when they were measured."""

__all__ = ["METRICS", "STAGES"]

METRICS = ("Rank-1", "Rank-5", "Rank-10", "mAP", "mINP")
"""In percent, in the order of the tables."""

STAGES = {
    "direct_transfer": "Direct transfer",
    "startup": "End of startup",
    "final": "Final",
    "final_ema": "Final, averaged weights",
}
"""Entries of ``results.json`` and their titles."""
