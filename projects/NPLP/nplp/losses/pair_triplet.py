"""The triplet loss over all positive pairs of a batch, as UDA and SSG train with.

Song et al., arXiv 1807.11334 (UDA); Fu et al., ICCV 2019, arXiv 1811.10144 (SSG).

Shapes: B images in the batch (P identities x K images each), M positive pairs, D values of a feature.
"""

import math

import torch
from torch import nn

from .batch import at_least_float32, check_batch, check_weights
from .triplet import check_margin, take_rows

__all__ = ["PairTripletLoss", "pair_triplet_loss"]


def pair_triplet_loss(
    features: torch.Tensor,
    labels: torch.Tensor,
    margin: float = 0.5,
    groups: torch.Tensor | None = None,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the mean over the pairs (i, j) of max(0, d(i, j) - d(i, nearest negative of i) + margin).

    A pair is of two images of one group, the earlier of which in the batch is the anchor i: K (K - 1) / 2
    pairs an identity. Distances are Euclidean. Negatives of i are the images of other labels.

    The authors' code takes pairs by their position in the batch, from each K images that were drawn together,
    and negatives by label. With labels of a part, positives may so be of two labels. ``groups`` are then the
    labels by which the batch was drawn; where a batch holds an identity once, this is the same.

    An anchor without a negative contributes 0; the authors' code fails there. The gradient of a distance of 0
    is taken as 0. Computed in float32 (float64 for float64 features) whatever the autocast mode; the gradient
    repeats to the bit. Memory: B x B distances and 3 M x D values.

    Args:
        features: [B, D], floating point, any scale.
        labels: [B] integers, by which negatives are told.
        margin: at least 0, in the distance's unit.
        groups: [B] integers, by which positives are told; the labels by default.
        weights: [B] floating point, a factor of each anchor's share; all 1 by default.

    Returns:
        A scalar; 0 where no group has two images.

    Raises:
        ValueError: for shapes or a margin that do not fit.
    """
    check_margin(margin)
    check_batch(features, labels)
    groups = labels if groups is None else groups
    check_batch(features, groups)
    check_weights(weights, len(labels))
    with torch.autocast(features.device.type, enabled=False):
        values = at_least_float32(features)
        anchors, positives, negatives, has_negative = _mine(values.detach(), labels, groups)
        if not len(anchors):
            return values.sum() * 0
        from_anchors = take_rows(values, anchors)
        to_positive = torch.linalg.vector_norm(from_anchors - take_rows(values, positives), dim=1)
        to_negative = torch.linalg.vector_norm(from_anchors - take_rows(values, negatives), dim=1)
        hinge = torch.relu(to_positive - to_negative + margin)
        per_pair = torch.where(has_negative, hinge, torch.zeros_like(hinge))
        if weights is not None:
            per_pair = weights.to(per_pair)[anchors] * per_pair
        return per_pair.mean()


@torch.no_grad()
def _mine(
    values: torch.Tensor, labels: torch.Tensor, groups: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return anchor, positive and nearest negative [M] of each pair, and whether there is a negative [M]."""
    together = groups.unsqueeze(1) == groups.unsqueeze(0)
    anchors, positives = torch.nonzero(together.triu(1), as_tuple=True)
    same = labels.unsqueeze(1) == labels.unsqueeze(0)
    # The product form would lose small distances, which decide, to cancellation.
    distances = torch.cdist(values, values, compute_mode="donot_use_mm_for_euclid_dist")
    negatives = distances.masked_fill(same, math.inf).argmin(dim=1)
    return anchors, positives, negatives[anchors], ~same.all(dim=1)[anchors]


class PairTripletLoss(nn.Module):
    """Module form of :func:`pair_triplet_loss`.

    Args:
        margin: at least 0.

    Raises:
        ValueError: for a margin out of its range.
    """

    def __init__(self, margin: float = 0.5) -> None:
        super().__init__()
        check_margin(margin)
        self.margin = margin

    def forward(
        self,
        features: torch.Tensor,
        labels: torch.Tensor,
        groups: torch.Tensor | None = None,
        weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the scalar loss of ``features`` [B, D], ``labels``, ``groups`` and ``weights`` [B]."""
        return pair_triplet_loss(features, labels, self.margin, groups, weights)

    def extra_repr(self) -> str:
        """Return the arguments shown in the module's representation."""
        return f"margin={self.margin}"
