"""What trains in a run: the model, and the further networks of a method that has some."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from nplp.methods import Method, NetworkMethod
from nplp.modeling import NPLP, JointFeatures

__all__ = ["TrainedTogether", "bare", "labelled_networks", "labelling_model", "trained_together"]


class TrainedTogether(nn.Module):
    """The model and a method's further networks as one module, for optimiser, checkpoint and processes.

    Args:
        model: what a batch goes to; its losses run the networks, in training.
        networks: the further ones.
    """

    def __init__(self, model: nn.Module, networks: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.networks = networks

    def forward(self, batch: Any) -> Any:
        """Return the model's losses, or its features in evaluation."""
        return self.model(batch)


def trained_together(method: Method, model: NPLP, images: int) -> nn.Module:
    """Return all that trains: the model itself, for a method without further networks.

    Args:
        method: of the run.
        model: without a wrapper.
        images: in the target's training set.
    """
    if not isinstance(method, NetworkMethod):
        return model
    return TrainedTogether(model, method.build_networks(images).to(model.device))


def bare(model: nn.Module) -> nn.Module:
    """Return the model alone of what trains."""
    return model.model if isinstance(model, TrainedTogether) else model


def labelled_networks(method: Method, model: NPLP) -> Sequence[NPLP]:
    """Return the networks whose features are labelled."""
    return method.labelled_networks() if isinstance(method, NetworkMethod) else (model,)


def labelling_model(networks: Sequence[NPLP]) -> nn.Module:
    """Return what gives the features to be labelled."""
    return networks[0] if len(networks) == 1 else JointFeatures(networks)
