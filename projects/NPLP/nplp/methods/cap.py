"""Camera-aware proxies, CAP (Wang et al., AAAI 2021, arXiv 2012.10674), clustered anew every iteration.

With one epoch an iteration it is: Jaccard DBSCAN at a fixed epsilon on L2-normalised BN-neck features of the
whole target set, outliers left out; a proxy of each (cluster, camera), the L2-normalised mean of its images;
cross-entropy over the proxies of an image's own camera and, from the sixth epoch on, half of the contrast of
all proxies of its cluster with the 50 hardest others. The losses are those of
:class:`nplp.losses.CameraProxyLoss`, and ``configs/methods/overlays/cap.yml`` sets them and the sampler.

Where it differs from its authors' code: the backbone has the ReLU after its first batch norm, theirs has
none; the rate rises by the step in the first epochs, theirs by the epoch; an iteration contrasts cameras as a
whole or not at all. As in theirs in effect, k1 counts the image itself.

Shapes: N target images, D values of a feature.
"""

import logging
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from fastreid.config import CfgNode

from nplp.clustering import Constraints
from nplp.errors import UserError
from nplp.losses import CameraProxyLoss
from nplp.losses.registry import CAMERA_PROXY
from nplp.methods.camera_proxies import CameraProxies
from nplp.methods.fixed_radius import CLUSTERER, FixedRadius, radius_options
from nplp.methods.protocol import Labelling
from nplp.methods.registry import register_method, require
from nplp.modeling import NPLP, HeadOutput

__all__ = ["CameraAwareProxies", "ProxyMethod"]

logger = logging.getLogger(__name__)

PROXY = "MODEL.LOSSES.PROXY"


class ProxyMethod:
    """Clusters at a fixed radius and trains with camera proxies, as the losses are set.

    Its state is the iteration and the proxies as training has moved them.

    Args:
        cfg: the configuration.
        model: without a wrapper.

    Raises:
        UserError: if the model has no loss of camera proxies, its feature is not that of the BN neck, or an
            option is out of its range.
    """

    authors: ClassVar[Mapping[str, Any]]
    """What MODEL.LOSSES.PROXY is in the authors' runs."""

    def __init__(self, cfg: CfgNode, model: NPLP) -> None:
        require(cfg, CAMERA_PROXY, "f_bn")
        self._name = name = cfg.NPLP.METHOD
        self._options = cfg.NPLP[name.upper()]
        self._radius = FixedRadius(self._options, f"NPLP.{name.upper()}")
        self._model = model
        loss = model.criteria[CAMERA_PROXY]
        assert isinstance(loss, CameraProxyLoss)
        self._loss = loss
        self._proxies = CameraProxies(model)
        self._epochs_per_iteration = cfg.NPLP.EPOCHS_PER_ITERATION
        self._go_to(0)
        self._say_what_differs(cfg.MODEL.LOSSES.PROXY)

    def label(
        self,
        iteration: int,
        features: torch.Tensor,
        cameras: np.ndarray,
        constraints: Constraints | None = None,
    ) -> Labelling:
        """Cluster the L2-normalised features."""
        if iteration == 1 and len(np.unique(cameras)) == 1:
            logger.warning(
                "%s: all images are of one camera, or of none that is known: a cluster has one proxy, so "
                "that this trains like a cluster memory and learns nothing across cameras",
                self._name,
            )
        self._go_to(iteration)
        return self._radius.label(features, cameras, constraints)

    def begin_iteration(self, features: torch.Tensor, labels: np.ndarray, cameras: np.ndarray) -> float:
        """Start the proxies as the L2-normalised means of the L2-normalised features."""
        self._proxies.begin(features, labels, cameras)
        return 0.0

    def losses(self, output: HeadOutput, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Return the losses of MODEL.LOSSES.NAME."""
        return self._model.losses(output, batch)

    def state_dict(self) -> dict[str, Any]:
        """Return the iteration and the proxies as they stand now."""
        return {"iteration": self._iteration, **self._proxies.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the iteration, and the proxies without normalising them again."""
        self._go_to(int(state["iteration"]))
        self._proxies.load_state_dict(state)

    def _contrasts(self, iteration: int) -> bool:
        """Tell whether an iteration contrasts cameras."""
        del iteration
        return True

    def _go_to(self, iteration: int) -> None:
        self._iteration = iteration
        self._loss.across = self._contrasts(iteration)

    def _say_what_differs(self, losses: CfgNode) -> None:
        """Log what of the losses is not as the authors have it, in one line."""
        other = [
            f"{key} {losses[key]!r} ({value!r})"
            for key, value in self.authors.items()
            if losses[key] != value
        ]
        if other:
            logger.warning(
                "%s: %s is not its authors', whose values are in brackets: %s; "
                "configs/methods/overlays/%s.yml has them",
                *(self._name, PROXY, ", ".join(other), self._name),
            )


@register_method(
    "cap",
    options={
        **CLUSTERER,
        **radius_options(epsilon=0.5, k1=20),
        # Epochs before cameras are contrasted, 5 of 50 in CAP. An iteration contrasts cameras if so many
        # epochs lie before it: with 3 epochs an iteration the third is the first that does. 1: all iterations
        # but the first, as the overlay has it for short runs from a source model. 0: all. It is no share of
        # the run, so that a run that is made longer goes on as if it had been so from the beginning.
        "CONTRAST_AFTER": 5,
    },
)
class CameraAwareProxies(ProxyMethod):
    """CAP: within each camera from the beginning, across cameras after some epochs.

    Args:
        cfg: the configuration.
        model: without a wrapper.

    Raises:
        UserError: as :class:`ProxyMethod`, or if there is no loss before cameras are contrasted.
    """

    authors: ClassVar[Mapping[str, Any]] = {
        "WEIGHT": 0.5,
        "INTRA_WEIGHT": 1.0,
        "POSITIVES": "all",
        "REDUCTION": "cameras",
        "ONLINE_WEIGHT": 0.0,
    }

    def __init__(self, cfg: CfgNode, model: NPLP) -> None:
        options, proxy = cfg.NPLP.CAP, cfg.MODEL.LOSSES.PROXY
        if options.CONTRAST_AFTER < 0:
            raise UserError(f"NPLP.CAP.CONTRAST_AFTER must be at least 0, got {options.CONTRAST_AFTER}")
        if options.CONTRAST_AFTER and not proxy.INTRA_WEIGHT:
            raise UserError(
                f"NPLP.METHOD 'cap' needs {PROXY}.INTRA_WEIGHT above 0 until cameras are contrasted "
                f"(NPLP.CAP.CONTRAST_AFTER {options.CONTRAST_AFTER}), got {proxy.INTRA_WEIGHT}: lay "
                "configs/methods/overlays/cap.yml over the configuration"
            )
        super().__init__(cfg, model)
        iterations, epochs = cfg.NPLP.ITERATIONS, cfg.NPLP.EPOCHS_PER_ITERATION
        if iterations and not self._contrasts(iterations):
            logger.warning(
                "NPLP.CAP.CONTRAST_AFTER %d: the run of %d x %d epochs never contrasts cameras: with %d or "
                "fewer the last iteration does",
                *(options.CONTRAST_AFTER, iterations, epochs, (iterations - 1) * epochs),
            )

    def _contrasts(self, iteration: int) -> bool:
        return (iteration - 1) * self._epochs_per_iteration >= self._options.CONTRAST_AFTER
