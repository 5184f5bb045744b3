"""SpCL, self-paced contrastive learning with a hybrid memory (Ge et al., NeurIPS 2020, arXiv 2006.02713).

The memory has a row for each target image, set once from the L2-normalised features of the first iteration
and moved by training from then on. Each iteration clusters the memory's own rows at three radii and keeps
what is reliable (`nplp/clustering/self_paced.py`); all other images are classes of one, and train as such.
The loss is `nplp/losses/hybrid_memory.py`.

What is not here: its authors train source and target jointly, from ImageNet weights, with batch norms of each
domain and the source's classes among the memory's. A run here begins from the source-trained model and sees
target images alone: that is their unsupervised form (examples/spcl_train_usl.py) from other weights. Source
images in each step would need a second loader and second batch norms throughout the engine. So published
figures of the adaptation (Duke to Market 78.2 mAP in OpenUnReID) are not those of this form.

Where it differs from their code besides: a cluster of which one image is left counts as un-clustered; a run
whose first clustering finds fewer than two clusters ends; the model of the last epoch is reported, theirs of
the epoch that was best on the test set. Features are extracted in each iteration, for the log and the page;
labels do not depend on them after the first.

Shapes: N target images, D values of a feature.
"""

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from fastreid.config import CfgNode
from torch.nn import functional as F

from nplp.clustering import Constraints, estimate_pseudo_labels, outliers_as_clusters, self_paced_labels
from nplp.config.choices import TRACKS_UNUSED
from nplp.errors import UserError
from nplp.losses import HybridMemoryLoss
from nplp.losses.registry import HYBRID_MEMORY
from nplp.methods.camera_proxies import CameraProxies
from nplp.methods.fixed_radius import check_radius, radius_options
from nplp.methods.protocol import DistanceSettings, Labelling
from nplp.methods.registry import check_options, register_method, require
from nplp.modeling import NPLP, HeadOutput

__all__ = ["SelfPacedLearning"]

logger = logging.getLogger(__name__)

OPTIONS = {
    **radius_options(epsilon=0.6, k1=30),
    # How much smaller and larger than EPSILON the radii are that it is compared with.
    "GAP": 0.02,
}


@register_method("spcl", options=OPTIONS)
class SelfPacedLearning:
    """Clusters its own memory, and contrasts images with reliable clusters and with single images.

    Its state is the memory [N, D] as training has moved it, the classes of its rows, the threshold of the
    first clustering and, with that loss, the camera proxies.

    Args:
        cfg: the configuration.
        model: without a wrapper.

    Raises:
        UserError: if the model has no hybrid-memory loss, its feature is not that of the BN neck, an option
            is out of its range, or something is asked for that does not reach the memory.
    """

    trains_outliers = True

    def __init__(self, cfg: CfgNode, model: NPLP) -> None:
        require(cfg, HYBRID_MEMORY, "f_bn")
        self._options = options = cfg.NPLP.SPCL
        check_radius("NPLP.SPCL", options)
        check_options(
            "NPLP.SPCL",
            options,
            ("GAP", 0 <= options.GAP < options.EPSILON, "at least 0 and below NPLP.SPCL.EPSILON"),
        )
        if cfg.NPLP.EMA_LABELS:
            raise UserError(
                "NPLP.EMA_LABELS True changes the features that are clustered, but NPLP.METHOD 'spcl' "
                "clusters its memory: set it to False"
            )
        if cfg.NPLP.TRACKS != TRACKS_UNUSED:
            raise UserError(
                f"NPLP.TRACKS {cfg.NPLP.TRACKS!r}: NPLP.METHOD 'spcl' clusters its memory and parts what is "
                f"not reliable, whatever tracks say: set it to {TRACKS_UNUSED}, or take another method"
            )
        self._model = model
        loss = model.criteria[HYBRID_MEMORY]
        assert isinstance(loss, HybridMemoryLoss)
        self._loss = loss
        self._proxies = CameraProxies(model)
        self._threshold: float | None = None

    def label(
        self,
        iteration: int,
        features: torch.Tensor,
        cameras: np.ndarray,
        constraints: Constraints | None = None,
    ) -> Labelling:
        """Cluster the memory's rows, in the first iteration the L2-normalised features that they begin as."""
        del iteration, constraints  # of tracks, which are refused
        options = self._options
        distances = DistanceSettings.of(options, normalize=True)
        rows = self._loss.table if len(self._loss.table) else features
        estimate = estimate_pseudo_labels(
            distances.prepare(rows),
            cameras,
            epsilon=options.EPSILON,
            also_at=(options.EPSILON - options.GAP, options.EPSILON + options.GAP),
            min_samples=options.MIN_SAMPLES,
            correct=False,
            **distances.keywords(),
        )
        tight, loose = estimate.also_labels
        found = self_paced_labels(estimate.labels, tight, loose, self._threshold)
        self._threshold = found.threshold
        logger.info(
            "  Self-paced: %d of %d clusters are not independent, and %d images left the others",
            *(found.dependent, estimate.num_clusters, found.left),
        )
        estimate = replace(estimate, labels=found.labels)
        return Labelling(estimate, distances, "NPLP.SPCL.EPSILON", "NPLP.SPCL.MIN_SAMPLES")

    def begin_iteration(self, features: torch.Tensor, labels: np.ndarray, cameras: np.ndarray) -> float:
        """Set the classes of the rows; at first the rows too."""
        if not len(self._loss.table):
            self._loss.reset(F.normalize(features))
        classes = outliers_as_clusters(labels)
        self._loss.assign(torch.from_numpy(classes))
        self._proxies.begin(features, classes, cameras)
        return 0.0

    def losses(self, output: HeadOutput, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Return the losses of MODEL.LOSSES.NAME."""
        return self._model.losses(output, batch)

    def state_dict(self) -> dict[str, Any]:
        """Return the memory as it stands now, its classes, the threshold and the camera proxies."""
        return {
            "memory": self._loss.table.detach().cpu().clone(),
            "classes": self._loss.classes.cpu().clone(),
            "threshold": self._threshold,
            **self._proxies.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the memory without normalising it again, its classes, the threshold and the proxies."""
        if state["memory"].numel():
            self._loss.restore(state["memory"])
            self._loss.assign(state["classes"])
        self._threshold = state["threshold"]
        self._proxies.load_state_dict(state)
