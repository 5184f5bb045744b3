"""The hyper-network (HN), section III-D b."""

import torch
from torch import nn

__all__ = ["HyperNetwork"]


class HyperNetwork(nn.Module):
    """Encode the concatenated feature f_c to the embedding f_e with a single fully connected layer.

    The layer has a bias and nothing follows it. Its weights start from Kaiming's normal distribution
    (fan-out, as the 1024-d layer of the CamStyle recipe that the paper pre-trains with), its bias from 0.

    Args:
        in_features: size of f_c, C I(I+1)/2 for PAP-I.
        out_features: size of f_e.

    Raises:
        ValueError: if a size is below 1.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        for name, size in (("in_features", in_features), ("out_features", out_features)):
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        self.fc = nn.Linear(in_features, out_features)
        nn.init.kaiming_normal_(self.fc.weight, mode="fan_out")
        nn.init.zeros_(self.fc.bias)

    def forward(self, f_c: torch.Tensor) -> torch.Tensor:
        """Return f_e [B, out_features] of ``f_c`` [B, in_features]."""
        return self.fc(f_c)
