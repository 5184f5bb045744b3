"""One feature of several networks. Shapes: B images in the batch, D values of a feature."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .meta_arch import NPLP

__all__ = ["JointFeatures"]


class JointFeatures(nn.Module):
    """The mean of the L2-normalised features of several networks, L2-normalised again.

    Args:
        networks: of the same width of features.
    """

    def __init__(self, networks: Sequence[NPLP]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        # A module begins in training mode, whatever its parts are in.
        self.training = all(network.training for network in networks)

    def forward(self, batch: dict[str, Any]) -> torch.Tensor:
        """Return features [B, D] of a batch, in evaluation mode."""
        units = [F.normalize(network(batch).float()) for network in self.networks]
        return F.normalize(torch.stack(units).mean(dim=0))

    @contextmanager
    def raw_features(self) -> Iterator[None]:
        """Let each network give its head's feature itself within the block."""
        with ExitStack() as stack:
            for network in self.networks:
                assert isinstance(network, NPLP)
                stack.enter_context(network.raw_features())
            yield
