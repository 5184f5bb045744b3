"""The losses of part-based pseudo-label refinement, by how far whole and parts agree.

Cho et al., "Part-based Pseudo Label Refinement for Unsupervised Person Re-identification" (PPLR), CVPR 2022,
arXiv 2203.14675.

Shapes: B images in the batch, c clusters, P parts, D values of a feature.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from .batch import at_least_float32, check_batch, check_label_range, check_weights, weighted_mean
from .mutual_teaching import softmax_triplet_loss

__all__ = ["SoftmaxTripletLoss", "agreement_smoothed_cross_entropy", "part_refined_cross_entropy"]


def part_refined_cross_entropy(
    logits: torch.Tensor,
    part_logits: torch.Tensor,
    labels: torch.Tensor,
    agreement: torch.Tensor,
    kept: float = 0.5,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the whole image's cross-entropy with labels that the parts refine (PGLR).

    With q_p the softmax of part p, w = softmax over the parts of the agreements, and y the label as a vector,
    the refined label is ``kept`` y + (1 - ``kept``) sum_p w_p q_p. The parts get no gradient. Computed in
    float32 (float64 for float64 logits) whatever the autocast mode.

    Args:
        logits: of the whole image [B, c], floating point.
        part_logits: of the parts [B, P, c].
        labels: [B] integers in [0, c).
        agreement: of each part with the whole [B, P], in [0, 1].
        kept: the label's share, in [0, 1].
        weights: [B] floating point, a factor of each image's share; all 1 by default.

    Returns:
        A scalar, the mean over the batch.

    Raises:
        ValueError: for shapes that do not fit, or a label or share out of range.
    """
    if not (0 <= kept <= 1 and math.isfinite(kept)):
        raise ValueError(f"kept must be in [0, 1], got {kept}")
    check_batch(logits, labels)
    check_label_range(labels, logits.shape[1])
    check_weights(weights, len(labels))
    parts = agreement.shape[-1]
    if agreement.shape != (len(labels), parts) or part_logits.shape != (len(labels), parts, logits.shape[1]):
        raise ValueError(
            f"part_logits must be [B, P, c] and agreement [B, P] for logits of shape {tuple(logits.shape)}, "
            f"got {tuple(part_logits.shape)} and {tuple(agreement.shape)}"
        )
    with torch.autocast(logits.device.type, enabled=False):
        values = at_least_float32(logits)
        share = F.softmax(agreement.to(values), dim=1).unsqueeze(2)
        predicted = (F.softmax(at_least_float32(part_logits.detach()), dim=2) * share).sum(dim=1)
        label = F.one_hot(labels.long(), values.shape[1]).to(values)
        refined = kept * label + (1 - kept) * predicted
        return weighted_mean(-(refined * F.log_softmax(values, dim=1)).sum(dim=1), weights)


def agreement_smoothed_cross_entropy(
    logits: torch.Tensor,
    labels: torch.Tensor,
    agreement: torch.Tensor,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return a part's cross-entropy with labels that are smoothed where it disagrees with the whole (AALS).

    With agreement a, prediction q and the uniform distribution u: a CE(y, q) + (1 - a) KL(u || q). Computed
    in float32 (float64 for float64 logits) whatever the autocast mode.

    Args:
        logits: of the part [B, c], floating point.
        labels: [B] integers in [0, c).
        agreement: [B], in [0, 1].
        weights: [B] floating point, a factor of each image's share; all 1 by default.

    Returns:
        A scalar, the mean over the batch.

    Raises:
        ValueError: for shapes that do not fit, or a label out of range.
    """
    check_batch(logits, labels)
    check_label_range(labels, logits.shape[1])
    check_weights(weights, len(labels))
    if agreement.shape != labels.shape:
        raise ValueError(f"agreement must be [{len(labels)}], got shape {tuple(agreement.shape)}")
    with torch.autocast(logits.device.type, enabled=False):
        values = at_least_float32(logits)
        trusted = agreement.to(values)
        by_label = F.cross_entropy(values, labels.long(), reduction="none")
        to_uniform = -F.log_softmax(values, dim=1).mean(dim=1) - math.log(values.shape[1])
        return weighted_mean(trusted * by_label + (1 - trusted) * to_uniform, weights)


class SoftmaxTripletLoss(nn.Module):
    """Module form of :func:`softmax_triplet_loss`, by the label."""

    def forward(
        self, features: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the scalar loss of ``features`` [B, D], ``labels`` [B] and ``weights`` [B]."""
        return softmax_triplet_loss(features, labels, weights=weights)
