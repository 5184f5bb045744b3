"""The softmax cross-entropy loss, eq. 2. Shapes: B images in the batch, P_s source identities."""

import torch
import torch.nn.functional as F
from torch import nn

from .batch import at_least_float32, check_batch, check_label_range, check_weights

__all__ = ["SoftmaxLoss", "softmax_loss"]


def softmax_loss(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the softmax cross-entropy of eq. 2, the mean over the batch of -log softmax(W^T x)[label].

    Eq. 2 prints the same weight W_k in numerator and denominator; the denominator's runs over the P_s
    identities, as in any softmax. No label smoothing. Computed in float32 (float64 for float64 logits)
    whatever the autocast mode.

    Args:
        logits: W^T x [B, P_s], floating point.
        labels: [B] integer identities in [0, P_s).
        weights: [B] floating point, a factor of each image's share; all 1 by default.

    Returns:
        A scalar.

    Raises:
        ValueError: for shapes that do not fit or a label out of range.
    """
    check_batch(logits, labels)
    check_label_range(labels, logits.shape[1])
    check_weights(weights, len(labels))
    with torch.autocast(logits.device.type, enabled=False):
        values = at_least_float32(logits)
        if weights is None:
            return F.cross_entropy(values, labels.long())
        return (weights.to(values) * F.cross_entropy(values, labels.long(), reduction="none")).mean()


class SoftmaxLoss(nn.Module):
    """Module form of :func:`softmax_loss`."""

    def forward(
        self, logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the scalar loss of ``logits`` [B, P_s], ``labels`` [B] and ``weights`` [B]."""
        return softmax_loss(logits, labels, weights)
