"""The losses of mutual mean-teaching: each network learns from labels and from the other's mean teacher.

Ge, Chen and Li, "Mutual Mean-Teaching: Pseudo Label Refinery for Unsupervised Domain Adaptation on Person
Re-identification", ICLR 2020, arXiv 2001.01526.

Shapes: B images in the batch, D values of a feature, c clusters.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from nplp.errors import UserError

from .batch import at_least_float32, check_batch, check_label_range, check_weights, weighted_mean
from .triplet import mine_hardest, take_rows

__all__ = [
    "MutualTeachingLoss",
    "smoothed_cross_entropy",
    "soft_cross_entropy",
    "softmax_triplet_loss",
]


def smoothed_cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, smoothing: float = 0.1, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the cross-entropy with labels that are 1 - s + s / c for the own cluster and s / c for others.

    Computed in float32 (float64 for float64 logits) whatever the autocast mode.

    Args:
        logits: [B, c], floating point.
        labels: [B] integers in [0, c).
        smoothing: s, in [0, 1).
        weights: [B] floating point, a factor of each image's share; all 1 by default.

    Returns:
        A scalar, the mean over the batch.

    Raises:
        ValueError: for shapes that do not fit, or a label out of range.
    """
    check_batch(logits, labels)
    check_label_range(labels, logits.shape[1])
    check_weights(weights, len(labels))
    with torch.autocast(logits.device.type, enabled=False):
        values = at_least_float32(logits)
        own = F.cross_entropy(values, labels.long(), reduction="none", label_smoothing=smoothing)
        return weighted_mean(own, weights)


def soft_cross_entropy(
    logits: torch.Tensor, taught: torch.Tensor, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the cross-entropy of a network's softmax with a teacher's: - sum_k p_k log q_k, p the teacher's.

    The teacher gets no gradient. Computed in float32 (float64 for float64 logits) whatever the autocast mode.

    Args:
        logits: [B, c], floating point.
        taught: the teacher's [B, c].
        weights: [B] floating point, a factor of each image's share; all 1 by default.

    Returns:
        A scalar, the mean over the batch.

    Raises:
        ValueError: for shapes that do not fit.
    """
    _check_same("taught", taught, logits)
    check_weights(weights, len(logits))
    with torch.autocast(logits.device.type, enabled=False):
        soft = F.softmax(at_least_float32(taught.detach()), dim=1)
        own = -(soft * F.log_softmax(at_least_float32(logits), dim=1)).sum(dim=1)
        return weighted_mean(own, weights)


def softmax_triplet_loss(
    features: torch.Tensor,
    labels: torch.Tensor,
    taught: torch.Tensor | None = None,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the softmax-triplet loss over each anchor's hardest positive and hardest negative.

    With their Euclidean distances d_p and d_n, and t = exp(d_n) / (exp(d_p) + exp(d_n)), an anchor gives

        - log t                                     by the label, and
        - t' log t - (1 - t') log(1 - t)            by a teacher,

    where t' is of the teacher's distances of the same pairs, which are mined in ``features``. The teacher
    gets no gradient. An anchor's own image is among its positives, at distance 0. An anchor without a
    negative contributes 0; the authors' code adds 1e7 to distances there, which leaves no gradient either.

    Computed in float32 (float64 for float64 features) whatever the autocast mode. Mining stays within the
    process. The gradient repeats to the bit. Memory: B x B distances and a few B x D rows.

    Args:
        features: [B, D], floating point, any scale.
        labels: [B] integer clusters.
        taught: the teacher's features [B, D]; none: by the label.
        weights: [B] floating point, a factor of each anchor's share; all 1 by default.

    Returns:
        A scalar, the mean over the anchors.

    Raises:
        ValueError: for shapes that do not fit.
    """
    check_batch(features, labels)
    check_weights(weights, len(labels))
    if taught is not None:
        _check_same("taught", taught, features)
    with torch.autocast(features.device.type, enabled=False):
        values = at_least_float32(features)
        positive, negative, has_negative = mine_hardest(values, labels)
        gap = _gap(values, positive, negative)
        # log t = - softplus(d_p - d_n), log(1 - t) = - softplus(d_n - d_p).
        own = F.softplus(gap)
        if taught is not None:
            trusted = torch.sigmoid(-_gap(at_least_float32(taught.detach()), positive, negative))
            own = trusted * own + (1 - trusted) * F.softplus(-gap)
        return weighted_mean(torch.where(has_negative, own, torch.zeros_like(own)), weights)


def _gap(features: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
    """Return d_p - d_n [B] of the pairs with images ``positive`` and ``negative`` [B]."""
    to_positive = torch.linalg.vector_norm(features - take_rows(features, positive), dim=1)
    to_negative = torch.linalg.vector_norm(features - take_rows(features, negative), dim=1)
    return to_positive - to_negative


def _check_same(name: str, tensor: torch.Tensor, other: torch.Tensor) -> None:
    if tensor.shape != other.shape or other.dim() != 2 or not len(other):
        raise ValueError(
            f"{name} must be [B, D] with B >= 1 like what is taught, {tuple(other.shape)}, got "
            f"{tuple(tensor.shape)}"
        )


class MutualTeachingLoss(nn.Module):
    """The four losses of one network: classes and triplets, by labels and by the other network's teacher.

    Args:
        smoothing: of the labels, in [0, 1).
        soft_classes: share of the teacher in the loss of classes, in [0, 1]; the labels have the rest.
        soft_triplets: share of the teacher in the loss of triplets, in [0, 1].

    Raises:
        ValueError: for an argument out of its range.
    """

    def __init__(self, smoothing: float = 0.1, soft_classes: float = 0.5, soft_triplets: float = 0.8) -> None:
        super().__init__()
        if not 0 <= smoothing < 1:
            raise ValueError(f"smoothing must be in [0, 1), got {smoothing}")
        for name, share in (("soft_classes", soft_classes), ("soft_triplets", soft_triplets)):
            if not (0 <= share <= 1 and math.isfinite(share)):
                raise ValueError(f"{name} must be in [0, 1], got {share}")
        self.smoothing = smoothing
        self.soft_classes = soft_classes
        self.soft_triplets = soft_triplets

    def of_network(
        self,
        learned: tuple[torch.Tensor, torch.Tensor],
        taught: tuple[torch.Tensor, torch.Tensor],
        labels: torch.Tensor,
        weights: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the losses of classes by label and by teacher, and of triplets by label and by teacher.

        Each is multiplied by its share: their sum is what the network minimises.

        Args:
            learned: the network's features [B, D] and logits [B, c].
            taught: the same of the other network's teacher.
            labels: [B] integers in [0, c).
            weights: [B] floating point, a factor of each image's share; all 1 by default.
        """
        (features, logits), (soft_features, soft_logits) = learned, taught
        return (
            (1 - self.soft_classes) * smoothed_cross_entropy(logits, labels, self.smoothing, weights),
            self.soft_classes * soft_cross_entropy(logits, soft_logits, weights),
            (1 - self.soft_triplets) * softmax_triplet_loss(features, labels, weights=weights),
            self.soft_triplets * softmax_triplet_loss(features, labels, soft_features, weights),
        )

    def forward(
        self, features: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Refuse to be of one network alone.

        Raises:
            UserError: always; :meth:`of_network` is what trains.
        """
        del features, labels, weights
        raise UserError("MutualTeachingLoss needs a second network and teachers: set NPLP.METHOD mmt")

    def extra_repr(self) -> str:
        """Return the arguments shown in the module's representation."""
        return (
            f"smoothing={self.smoothing}, soft_classes={self.soft_classes}, "
            f"soft_triplets={self.soft_triplets}"
        )
