"""Eq. 11 by the letter, and small cases of eq. 10, for the tests of the center-contrastive loss."""

import torch

from nplp.losses import CenterContrastiveLoss


def naive_update(V: torch.Tensor, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return V after eq. 11, one sample after the other."""
    V = V.clone()
    for x, i in zip(features, labels.tolist(), strict=True):
        V[i] = (V[i] + x) / 2
    return V


def example(seed: int = 0, batch: int = 6, clusters: int = 4) -> tuple[torch.Tensor, ...]:
    """Return float64 V [clusters, 5], features [batch, 5] with a gradient, and labels [batch]."""
    generator = torch.Generator().manual_seed(seed)
    V = torch.randn(clusters, 5, generator=generator, dtype=torch.float64)
    features = torch.randn(batch, 5, generator=generator, dtype=torch.float64).requires_grad_()
    return V, features, torch.randint(clusters, (batch,), generator=generator)


def build(V: torch.Tensor, **options: object) -> CenterContrastiveLoss:
    """Return the loss with V as its lookup table, in V's precision."""
    loss = CenterContrastiveLoss(**options).to(V.dtype)
    loss.reset(V)
    return loss
