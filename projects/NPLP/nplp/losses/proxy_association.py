"""Which camera proxies an image is drawn to and pushed from, and the cross-entropy over them.

Wang et al., "Camera-aware Proxies for Unsupervised Person Re-Identification" (CAP, AAAI 2021, arXiv
2012.10674), and "Offline-Online Associated Camera-aware Proxies" (O2CAP, TIP 2022, arXiv 2201.05820).

Shapes: B images in a batch, M proxies.
"""

import math

import torch
import torch.nn.functional as F

__all__ = ["cross_entropy", "hardest", "nearest_of_cameras"]


def hardest(similarities: torch.Tensor, excluded: torch.Tensor, count: int) -> torch.Tensor:
    """Return which proxies are each image's ``count`` most similar ones, all where there are fewer.

    Args:
        similarities: [B, M].
        excluded: [B, M] of truth values: never among them.
        count: at least 1.

    Returns:
        [B, M] of truth values.
    """
    others = similarities.masked_fill(excluded, -math.inf)
    found = others.topk(min(count, similarities.shape[1]), dim=1).indices
    return torch.zeros_like(excluded).scatter_(1, found, True) & ~excluded


def nearest_of_cameras(similarities: torch.Tensor, cameras: torch.Tensor, count: int) -> torch.Tensor:
    """Return the online positives of O2CAP: of each camera's most similar proxy, the ``count`` best.

    Where there are fewer cameras all of them give one. Its authors' code then takes the most similar other
    proxies for the missing positives, which are as good as always other people; theirs has six cameras or
    more in every set.

    Args:
        similarities: [B, M].
        cameras: [M] int64, each proxy's.
        count: at least 1.

    Returns:
        [B, M] of truth values, min(count, number of cameras) of each row.
    """
    tops, values = [], []
    for camera in torch.unique(cameras).tolist():
        columns = torch.nonzero(cameras == camera).flatten()
        best, place = similarities[:, columns].max(dim=1)
        tops.append(columns[place])
        values.append(best)
    chosen = torch.stack(values, dim=1).topk(min(count, len(tops)), dim=1).indices
    positive = torch.zeros_like(similarities, dtype=torch.bool)
    return positive.scatter_(1, torch.stack(tops, dim=1).gather(1, chosen), True)


def cross_entropy(
    logits: torch.Tensor, positive: torch.Tensor, candidates: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean of -log softmax over each image's positives, and its gradient by the logits.

    Args:
        logits: s [B, M].
        positive: [B, M] of truth values; an image without any has loss and gradient 0.
        candidates: [B, M], what the softmax is over; it includes the positives.

    Returns:
        The loss [B] and the gradient [B, M].
    """
    count = positive.sum(dim=1, keepdim=True)
    log_softmax = F.log_softmax(logits.masked_fill(~candidates, -math.inf), dim=1)
    share = positive.to(logits) / count.clamp(min=1)
    loss = -(share * log_softmax.masked_fill(~positive, 0)).sum(dim=1)
    return loss, torch.where(count > 0, log_softmax.exp() - share, 0)
