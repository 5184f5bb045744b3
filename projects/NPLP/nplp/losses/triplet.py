"""The batch-hard triplet loss, eq. 1.

Shapes: B images in the batch (P identities x K images), D values of f_e each.
"""

import math

import torch
from torch import nn

from .batch import at_least_float32, check_batch, check_weights

__all__ = ["BatchHardTripletLoss", "batch_hard_triplet_loss", "check_margin", "mine_hardest", "take_rows"]

REDUCTIONS = ("mean", "sum")
OWN_CAMERA = "own"
NEGATIVES = ("all", OWN_CAMERA)


def batch_hard_triplet_loss(
    features: torch.Tensor,
    labels: torch.Tensor,
    margin: float = 0.3,
    reduction: str = "mean",
    weights: torch.Tensor | None = None,
    cameras: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the batch-hard triplet loss of eq. 1.

    Each image is an anchor once and gives max(0, d(hardest positive) - d(hardest negative) + margin) with
    Euclidean distances; the hinge at 0 is that of Hermans et al. (arXiv 1703.07737), which the paper cites.
    An anchor without another image of its identity has itself, at distance 0, as its positive; an anchor
    without an image of another identity contributes 0. The gradient of a distance of 0 is taken as 0.

    Computed in float32 (float64 for float64 features) whatever the autocast mode. Only the mined pairs
    take part in the graph: memory is B x B distances plus a few B x D rows. Mining stays within the
    process: in distributed training each process mines in its own batch. The gradient repeats to the bit,
    with any number of threads.

    Args:
        features: f_e [B, D], floating point, any scale.
        labels: [B] integer identities.
        margin: the paper's margin alpha, >= 0, in the distance's unit.
        reduction: "mean" over the B anchors, whose scale does not grow with the batch, or the literal
            "sum" of eq. 1.
        weights: [B] floating point, a factor of each anchor's share; all 1 by default.
        cameras: [B] integers: an anchor's negatives are of its own camera alone. By default, as in eq. 1,
            they are of any.

    Returns:
        A scalar.

    Raises:
        ValueError: for shapes, a margin or a reduction that do not fit.
    """
    _check_options(margin, reduction)
    check_batch(features, labels)
    check_weights(weights, len(labels))
    with torch.autocast(features.device.type, enabled=False):
        f_e = at_least_float32(features)
        positive, negative, has_negative = mine_hardest(f_e, labels, cameras)
        to_positive = torch.linalg.vector_norm(f_e - take_rows(f_e, positive), dim=1)
        to_negative = torch.linalg.vector_norm(f_e - take_rows(f_e, negative), dim=1)
        hinge = torch.relu(to_positive - to_negative + margin)
        per_anchor = torch.where(has_negative, hinge, torch.zeros_like(hinge))
        if weights is not None:
            per_anchor = weights.to(per_anchor) * per_anchor
        return per_anchor.mean() if reduction == "mean" else per_anchor.sum()


@torch.no_grad()
def mine_hardest(
    f_e: torch.Tensor, labels: torch.Tensor, cameras: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the indices [B] of each anchor's hardest positive and negative, and whether it has a negative.

    The distances are sums of squared differences: the faster product form loses the small ones to
    cancellation, and they decide which negative is hardest.
    """
    distances = torch.cdist(f_e, f_e, compute_mode="donot_use_mm_for_euclid_dist")
    same = labels.unsqueeze(1) == labels.unsqueeze(0)
    positive = distances.masked_fill(~same, -1.0).argmax(dim=1)
    excluded = same if cameras is None else same | (cameras.unsqueeze(1) != cameras.unsqueeze(0))
    negative = distances.masked_fill(excluded, math.inf).argmin(dim=1)
    return positive, negative, ~excluded.all(dim=1)


def take_rows(f_e: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Return ``f_e[indices]`` [B, D] with a gradient whose sums are always taken in the same order.

    An image may be the hardest of several anchors, whose gradients are then added up. On the CPU indexing
    does so from several threads from 32,768 values on, in an order that changes from run to run;
    index_select adds row after row. On CUDA it is the other way round: indexing sorts first.
    """
    return f_e[indices] if f_e.is_cuda else f_e.index_select(0, indices)


def check_margin(margin: float) -> None:
    """Check a triplet loss's margin.

    Raises:
        ValueError: if it is negative or not finite.
    """
    if not (margin >= 0 and math.isfinite(margin)):
        raise ValueError(f"margin must be a finite number >= 0, got {margin}")


def _check_options(margin: float, reduction: str) -> None:
    check_margin(margin)
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {REDUCTIONS}, got {reduction!r}")


class BatchHardTripletLoss(nn.Module):
    """Module form of :func:`batch_hard_triplet_loss`.

    Args:
        margin: the paper's margin alpha, >= 0.
        reduction: "mean" or "sum".
        negatives: cameras of an anchor's negatives, "all" as in eq. 1, or its "own" alone.

    Raises:
        ValueError: for an argument out of its range.
    """

    def __init__(self, margin: float = 0.3, reduction: str = "mean", negatives: str = "all") -> None:
        super().__init__()
        _check_options(margin, reduction)
        if negatives not in NEGATIVES:
            raise ValueError(f"negatives must be one of {NEGATIVES}, got {negatives!r}")
        self.margin = margin
        self.reduction = reduction
        self.negatives = negatives

    def forward(
        self,
        features: torch.Tensor,
        labels: torch.Tensor,
        weights: torch.Tensor | None = None,
        camids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the scalar loss of ``features`` [B, D], ``labels``, ``weights`` and ``camids`` [B].

        Raises:
            ValueError: for negatives of the own camera without cameras.
        """
        if self.negatives == OWN_CAMERA and camids is None:
            raise ValueError("negatives of the own camera need the cameras of the batch, got none")
        cameras = camids.to(features.device) if self.negatives == OWN_CAMERA and camids is not None else None
        return batch_hard_triplet_loss(features, labels, self.margin, self.reduction, weights, cameras)

    def extra_repr(self) -> str:
        """Return the arguments shown in the module's representation."""
        return f"margin={self.margin}, reduction={self.reduction!r}, negatives={self.negatives!r}"
