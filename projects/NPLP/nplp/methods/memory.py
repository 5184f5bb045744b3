"""The cluster memory of cluster contrast (Dai et al., arXiv 2103.11568), clustered anew every iteration.

With one epoch an iteration it is: Jaccard DBSCAN at a fixed epsilon on L2-normalised BN-neck features of the
whole target set, outliers left out; a memory of the clusters' L2-normalised means; InfoNCE against it.

k1 counts the image itself, which is what their code comes to: it cuts a search of k1 columns at k1 + 1, so
that 30 leaves 29 others. Where this differs from theirs: the model of the last epoch is reported, theirs of
the epoch that was best on the test set.

The hard variant is MODEL.LOSSES.MEMORY.HARD; with GeM pooling and 16 images of an identity in a batch it is
configs/methods/cluster_contrast.yml.

Shapes: N target images, c clusters, D values of a feature.
"""

from typing import Any

import numpy as np
import torch
from fastreid.config import CfgNode
from torch.nn import functional as F

from nplp.clustering import Constraints
from nplp.losses import ClusterMemoryLoss, cluster_centroids
from nplp.losses.registry import CLUSTER_MEMORY
from nplp.methods.camera_proxies import CameraProxies
from nplp.methods.fixed_radius import CLUSTERER, FixedRadius, radius_options
from nplp.methods.protocol import Labelling
from nplp.methods.registry import register_method, require
from nplp.modeling import NPLP, HeadOutput

__all__ = ["ClusterMemory"]

OPTIONS = {**CLUSTERER, **radius_options(epsilon=0.6, k1=30)}


@register_method("memory", options=OPTIONS)
class ClusterMemory:
    """Clusters at a fixed radius and contrasts images with a memory of the clusters.

    Its state is the memory [c, D] as training has moved it and, with that loss, the camera proxies.

    Args:
        cfg: the configuration.
        model: without a wrapper.

    Raises:
        UserError: if the model has no cluster-memory loss, its feature is not that of the BN neck, or an
            option is out of its range.
    """

    def __init__(self, cfg: CfgNode, model: NPLP) -> None:
        require(cfg, CLUSTER_MEMORY, "f_bn")
        self._radius = FixedRadius(cfg.NPLP.MEMORY, "NPLP.MEMORY")
        self._model = model
        loss = model.criteria[CLUSTER_MEMORY]
        assert isinstance(loss, ClusterMemoryLoss)
        self._loss = loss
        self._proxies = CameraProxies(model)

    def label(
        self,
        iteration: int,
        features: torch.Tensor,
        cameras: np.ndarray,
        constraints: Constraints | None = None,
    ) -> Labelling:
        """Cluster the L2-normalised features."""
        del iteration
        return self._radius.label(features, cameras, constraints)

    def begin_iteration(self, features: torch.Tensor, labels: np.ndarray, cameras: np.ndarray) -> float:
        """Start the memory as the L2-normalised means of the L2-normalised features."""
        means = cluster_centroids(F.normalize(features), torch.from_numpy(labels), int(labels.max()) + 1)
        self._loss.reset(means)
        self._proxies.begin(features, labels, cameras)
        return 0.0

    def losses(self, output: HeadOutput, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Return the losses of MODEL.LOSSES.NAME."""
        return self._model.losses(output, batch)

    def state_dict(self) -> dict[str, Any]:
        """Return the memory as it stands now, and the camera proxies."""
        return {"memory": self._loss.table.detach().cpu().clone(), **self._proxies.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the memory without normalising it again, and the camera proxies."""
        if state["memory"].numel():
            self._loss.restore(state["memory"])
        self._proxies.load_state_dict(state)
