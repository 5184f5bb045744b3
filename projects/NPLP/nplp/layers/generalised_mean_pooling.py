"""Generalised mean (GeM) pooling of a feature map's stripes.

Shapes: B images in the batch, C x H x W feature map, I granularities.
"""

import torch
from torch import nn

from .pyramidal_pooling import PyramidalAveragePooling

__all__ = ["GeneralisedMeanPooling"]

FIRST_POWER = 3.0
"""p before training, as in the models that pool so."""
LEAST = 1e-6
"""Values are raised to it first: powers of 0 and below have no gradient."""


class GeneralisedMeanPooling(PyramidalAveragePooling):
    """Pool a feature map over the stripes of :class:`PyramidalAveragePooling` by a generalised mean.

    Of the values x of a stripe and a channel it is (mean of max(x, 1e-6)^p)^(1/p): the average for p = 1,
    and the nearer to the maximum the larger p. p is trained and begins at 3 (Radenovic, Tolias, Chum,
    "Fine-tuning CNN image retrieval with no human annotation", arXiv 1711.02512, eq. 3).

    It is computed in single precision at least, as powers leave the range of half precision.

    Args:
        granularities: I, at least 1; with 1 it is the pooling over the whole map.

    Attributes:
        p: [1] float32.

    Raises:
        ValueError: if ``granularities`` is below 1.
    """

    def __init__(self, granularities: int) -> None:
        super().__init__(granularities)
        self.p = nn.Parameter(torch.full((1,), FIRST_POWER))

    def forward(self, feature_map: torch.Tensor) -> torch.Tensor:
        """Return f_c [B, C I(I+1)/2] of ``feature_map`` [B, C, H, W], in float32 or its wider dtype.

        Raises:
            ValueError: if the feature map is not four-dimensional or has fewer than I rows.
        """
        with torch.autocast(feature_map.device.type, enabled=False):
            values = feature_map.to(torch.promote_types(feature_map.dtype, torch.float32))
            return super().forward(values.clamp(min=LEAST).pow(self.p)).pow(1.0 / self.p)
