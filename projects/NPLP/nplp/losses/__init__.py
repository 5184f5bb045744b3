"""Losses of the paper: batch-hard triplet (eq. 1), softmax (eq. 2), center contrastive (eqs. 10-11)."""

from .center_contrastive import CenterContrastiveLoss
from .lookup_table import cluster_centroids, update_lookup_table_
from .softmax import softmax_loss
from .triplet import BatchHardTripletLoss, batch_hard_triplet_loss

__all__ = [
    "BatchHardTripletLoss",
    "CenterContrastiveLoss",
    "batch_hard_triplet_loss",
    "cluster_centroids",
    "softmax_loss",
    "update_lookup_table_",
]
