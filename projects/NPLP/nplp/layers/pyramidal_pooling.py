"""Pyramidal average pooling (PAP-I), section III-D a.

Shapes: B images in the batch, C x H x W feature map, I granularities.
"""

import torch
from torch import nn

__all__ = ["PyramidalAveragePooling", "pool_stripes", "stripe_rows"]


def stripe_rows(height: int, stripes: int) -> list[tuple[int, int]]:
    """Return the first and the past-the-end row of each of ``stripes`` uniform stripes, top to bottom.

    Stripe k of i covers rows floor(k H / i) up to ceil((k + 1) H / i), the rule of adaptive average
    pooling: where i does not divide H, neighbouring stripes share a row and all rows are covered.

    Args:
        height: H, rows of the feature map.
        stripes: i, number of stripes.
    """
    return [(k * height // stripes, -(-(k + 1) * height // stripes)) for k in range(stripes)]


def pool_stripes(feature_map: torch.Tensor, stripes: int) -> torch.Tensor:
    """Return the means [B, ``stripes``, C] of uniform horizontal stripes of ``feature_map`` [B, C, H, W].

    They are those of one granularity of :class:`PyramidalAveragePooling`, top to bottom.

    Raises:
        ValueError: if the feature map has fewer rows than stripes.
    """
    height = feature_map.shape[2]
    if height < stripes:
        raise ValueError(f"a feature map of shape {tuple(feature_map.shape)} has no {stripes} stripes")
    rows = feature_map.mean(dim=3)
    return torch.stack(
        [rows[:, :, first:last].mean(dim=2) for first, last in stripe_rows(height, stripes)], dim=1
    )


class PyramidalAveragePooling(nn.Module):
    """Average-pool a feature map over 1, 2, ..., I uniform horizontal stripes.

    The output holds C values for each stripe: first granularity 1 (global average pooling), then the two
    stripes of granularity 2 from top to bottom, and so on: I(I+1)/2 stripes. PAP-1 is global average
    pooling. It is computed with plain means, whose gradient is deterministic on every device.

    Args:
        granularities: I of PAP-I, at least 1.

    Raises:
        ValueError: if ``granularities`` is below 1.
    """

    def __init__(self, granularities: int) -> None:
        super().__init__()
        if granularities < 1:
            raise ValueError(f"granularities (MODEL.HEADS.PAP) must be at least 1, got {granularities}")
        self.granularities = granularities

    @property
    def stripes(self) -> int:
        """I(I+1)/2, the number of stripes over all granularities."""
        return self.granularities * (self.granularities + 1) // 2

    def forward(self, feature_map: torch.Tensor) -> torch.Tensor:
        """Return f_c [B, C I(I+1)/2] of ``feature_map`` [B, C, H, W], in its dtype.

        Raises:
            ValueError: if the feature map is not four-dimensional or has fewer than I rows.
        """
        if feature_map.dim() != 4:
            raise ValueError(f"feature_map must be [B, C, H, W], got shape {tuple(feature_map.shape)}")
        height = feature_map.shape[2]
        if height < self.granularities:
            raise ValueError(
                f"a feature map of shape {tuple(feature_map.shape)} has {height} row(s), too few for "
                f"{self.granularities} granularities: lower MODEL.HEADS.PAP or enlarge the input"
            )
        rows = feature_map.mean(dim=3)
        pooled = [
            rows[:, :, first:last].mean(dim=2)
            for granularity in range(1, self.granularities + 1)
            for first, last in stripe_rows(height, granularity)
        ]
        return torch.cat(pooled, dim=1)

    def extra_repr(self) -> str:
        """Return the arguments shown in the module's representation."""
        return f"granularities={self.granularities}"
