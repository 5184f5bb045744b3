"""The table of the camera-proxy loss, for each method whose model may have that loss.

Shapes: N target images, D values of a feature.
"""

from typing import Any

import numpy as np
import torch

from nplp.losses import CameraProxyLoss
from nplp.losses.registry import CAMERA_PROXY
from nplp.modeling import NPLP

__all__ = ["CameraProxies"]

KEY = "camera_proxies"


class CameraProxies:
    """Begins, saves and brings back the camera proxies; does nothing for a model without that loss.

    Args:
        model: without a wrapper.
    """

    def __init__(self, model: NPLP) -> None:
        loss = dict(model.criteria.items()).get(CAMERA_PROXY)
        assert loss is None or isinstance(loss, CameraProxyLoss)
        self._loss = loss

    def begin(self, f_bn: torch.Tensor, labels: np.ndarray, cameras: np.ndarray) -> None:
        """Start the table from the features BN(f_e) [N, D], labels [N] and cameras [N] of all images."""
        if self._loss is not None:
            self._loss.begin(f_bn, torch.from_numpy(labels), torch.from_numpy(cameras))

    def state_dict(self) -> dict[str, Any]:
        """Return the table under a key of its own; nothing without the loss."""
        return {} if self._loss is None else {KEY: self._loss.proxies()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the table from what :meth:`state_dict` is a part of."""
        if self._loss is not None:
            self._loss.restore_proxies(state[KEY])
