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

from nplp.clustering import Constraints, estimate_pseudo_labels
from nplp.clustering.without_epsilon import CLUSTERERS, missing_library
from nplp.errors import UserError
from nplp.losses import ClusterMemoryLoss, cluster_centroids
from nplp.losses.registry import CLUSTER_MEMORY
from nplp.methods.camera_proxies import CameraProxies
from nplp.methods.protocol import DistanceSettings, Labelling
from nplp.methods.registry import register_method, require
from nplp.modeling import NPLP, HeadOutput

__all__ = ["ClusterMemory"]

DISTANCES = ("jaccard", "camera_jaccard")
OPTIONS = {
    # What clusters: "dbscan" by EPSILON, or without a radius "hdbscan" or "infomap", which need the packages
    # fast_hdbscan and infomap. All count MIN_SAMPLES; see nplp/clustering/without_epsilon.py.
    "CLUSTERER": "dbscan",
    # DBSCAN's radius in the Jaccard distance, the same in every iteration.
    "EPSILON": 0.6,
    "MIN_SAMPLES": 4,
    # Neighbours of the Jaccard distance and of its query expansion, the image itself among them.
    "K1": 30,
    "K2": 6,
    # "jaccard", or "camera_jaccard" with the four numbers of neighbours below (see NPLP.DISTANCE). Authors of
    # the latter take EPSILON 0.4 for Market-1501 and 0.6 for MSMT17.
    "DISTANCE": "jaccard",
    "K1_INTRA": 5,
    "K1_INTER": 20,
    "K2_INTRA": 2,
    "K2_INTER": 4,
    # Subtract each camera's mean feature first; divide by its deviations too (see NPLP.CAMERA_SCALING).
    "CAMERA_CENTERING": False,
    "CAMERA_SCALING": False,
}


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
        self._options = options = cfg.NPLP.MEMORY
        for key, holds, rule in (
            ("CLUSTERER", options.CLUSTERER in CLUSTERERS, f"one of {CLUSTERERS}"),
            ("EPSILON", 0 < options.EPSILON <= 1, "in (0, 1]"),
            ("MIN_SAMPLES", options.MIN_SAMPLES >= 1, "at least 1"),
            ("K1", options.K1 >= 1, "at least 1"),
            ("K2", 1 <= options.K2 <= options.K1, "between 1 and NPLP.MEMORY.K1"),
            ("DISTANCE", options.DISTANCE in DISTANCES, f"one of {DISTANCES}"),
            ("K1_INTRA", options.K1_INTRA >= 1, "at least 1"),
            ("K1_INTER", options.K1_INTER >= 1, "at least 1"),
            ("K2_INTRA", options.K2_INTRA >= 1, "at least 1"),
            ("K2_INTER", options.K2_INTER >= 0, "at least 0"),
            (
                "CAMERA_SCALING",
                options.CAMERA_CENTERING or not options.CAMERA_SCALING,
                "False unless NPLP.MEMORY.CAMERA_CENTERING is True",
            ),
        ):
            if not holds:
                raise UserError(f"NPLP.MEMORY.{key} must be {rule}, got {options[key]!r}")
        if missing := missing_library(options.CLUSTERER):
            raise UserError(
                f"NPLP.MEMORY.CLUSTERER {options.CLUSTERER!r} needs the package {missing}, which is not "
                f"installed: pip install 'nplp[{options.CLUSTERER}]'"
            )
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
        options = self._options
        distances = DistanceSettings.of(options, normalize=True)
        estimate = estimate_pseudo_labels(
            distances.prepare(features),
            cameras,
            epsilon=options.EPSILON,
            min_samples=options.MIN_SAMPLES,
            correct=False,
            clusterer=options.CLUSTERER,
            constraints=constraints,
            **distances.keywords(),
        )
        return Labelling(estimate, distances, "NPLP.MEMORY.EPSILON", "NPLP.MEMORY.MIN_SAMPLES")

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
