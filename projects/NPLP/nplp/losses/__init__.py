"""Losses: triplet (eq. 1), softmax (eq. 2), center contrastive (eqs. 10-11), and those of other methods."""

from .camera_proxies import CameraProxyLoss
from .center_contrastive import CenterContrastiveLoss
from .cluster_memory import ClusterMemoryLoss
from .hybrid_memory import HybridMemoryLoss
from .lookup_table import cluster_centroids, update_lookup_table_
from .mutual_teaching import MutualTeachingLoss
from .pair_triplet import PairTripletLoss, pair_triplet_loss
from .part_refinement import (
    SoftmaxTripletLoss,
    agreement_smoothed_cross_entropy,
    part_refined_cross_entropy,
)
from .registry import LOSSES, Loss, check_losses, register_loss
from .softmax import SoftmaxLoss, softmax_loss
from .triplet import BatchHardTripletLoss, batch_hard_triplet_loss
from .whole_batch import gather_for_losses, gather_rows, whole_batch

__all__ = [
    "LOSSES",
    "BatchHardTripletLoss",
    "CameraProxyLoss",
    "CenterContrastiveLoss",
    "ClusterMemoryLoss",
    "HybridMemoryLoss",
    "Loss",
    "MutualTeachingLoss",
    "PairTripletLoss",
    "SoftmaxLoss",
    "SoftmaxTripletLoss",
    "agreement_smoothed_cross_entropy",
    "batch_hard_triplet_loss",
    "check_losses",
    "cluster_centroids",
    "gather_for_losses",
    "gather_rows",
    "pair_triplet_loss",
    "part_refined_cross_entropy",
    "register_loss",
    "softmax_loss",
    "update_lookup_table_",
    "whole_batch",
]
