"""The paper's method: pseudo-labels of eqs. 4-9, and the center-contrastive loss of eqs. 10-11.

Shapes: N target images, c clusters, D values of f_e and f_r.
"""

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from fastreid.config import CfgNode

from nplp.clustering import Constraints, choose_neighbours, estimate_pseudo_labels
from nplp.config.choices import EMBEDDING
from nplp.losses import CenterContrastiveLoss, cluster_centroids
from nplp.losses.registry import CENTER_CONTRASTIVE
from nplp.methods.camera_proxies import CameraProxies
from nplp.methods.protocol import DistanceSettings, Labelling
from nplp.methods.registry import register_method, require
from nplp.modeling import NPLP, HeadOutput

__all__ = ["NoisyPseudoLabelProcessing"]

logger = logging.getLogger(__name__)

NECK_BLOCK = 4096
LOGIT_BLOCK = 8192

OPTIONS = {
    # alpha of eq. 4, the share of cross-camera pairs averaged for epsilon_e. The paper's 0.0012 is
    # 0.9 / 751 for Market-1501's identities; a target with other numbers needs about 0.9 / identities. 0, or
    # "auto" on the command line, is an addition to the paper: each iteration chooses it from its features
    # (nplp/clustering/people.py), as nobody knows how many people walked by.
    "ALPHA": 0.0012,
    # beta of eq. 9, epsilon_c = beta epsilon_e.
    "BETA": 0.5,
    # Share of the clusters, those with the lowest self-assessment scores, that are clustered again.
    "NOISY_FRACTION": 0.1,
    # DBSCAN's min_samples; not in the paper, 4 in its peers.
    "MIN_SAMPLES": 4,
    # Distance of eq. 4 and DBSCAN: "jaccard" (k-reciprocal, as the method's peers), "euclidean", or, an
    # addition to the paper, "camera_jaccard" (CA-Jaccard, arXiv 2311.10605): k-reciprocal within the own
    # camera and across the others separately, for a target of two cameras or more.
    "DISTANCE": "jaccard",
    # Distance of eqs. 6-8; empty: the same. The literal reading is "euclidean".
    "ASSESSMENT_DISTANCE": "",
    # An addition to the paper: the distance by which noisy clusters are clustered again (eq. 9), at beta
    # times the radius that eq. 4 finds for it; empty: that of the clustering.
    "CORRECTION_DISTANCE": "",
    # k1 and k2 of the Jaccard distance. K1 0, an addition to the paper, chooses both in the first iteration,
    # so that clusters hold about as many images as an image has neighbours (clustering/neighbourhood.py).
    "K1": 20,
    "K2": 6,
    # Neighbours of camera_jaccard in the own camera and in all others, and the images of both that its local
    # query expansion averages over; its authors' values.
    "K1_INTRA": 5,
    "K1_INTER": 20,
    "K2_INTRA": 2,
    "K2_INTER": 4,
    # L2-normalise f_e before the pseudo-label stage.
    "NORMALIZE": True,
    # "iteration": eq. 4 in every iteration (Algorithm 1); "first": epsilon_e of the first one is kept.
    "EPSILON_UPDATE": "iteration",
    # What becomes of a noisy cluster: "recluster", the paper's way (eq. 9), or, additions to the paper,
    # "drop", so that its images wait for a later iteration, or "keep", nothing, for what uses scores alone:
    "NOISY": "recluster",
    # Each image's share of every loss is weighed by its cluster's self-assessment score q: 1 + q, on average
    # 1 over the clusters (clustering/assessment.py).
    "SCORE_WEIGHT": False,
    # A batch's clusters are drawn with probabilities in proportion to 1 + q, in place of each as often.
    "SCORE_SAMPLING": False,
    # A noisy cluster that dissolves entirely when clustered again is dropped ("drop") or kept ("keep").
    "DISSOLVED": "drop",
    # What is an outlier when its noisy cluster is clustered again is left out of the iteration ("drop", the
    # paper's X_t^c holds sub-clusters alone) or put back ("rejoin") into the sub-cluster in which it has the
    # most neighbours within epsilon_e.
    "RECLUSTERED_OUTLIERS": "drop",
    # An addition to the paper: subtract each camera's mean feature before any distance.
    "CAMERA_CENTERING": False,
    # Then divide each value by its standard deviation in the camera, and L2-normalise again
    # (arXiv 2502.10195); needs CAMERA_CENTERING.
    "CAMERA_SCALING": False,
}


@register_method("nplp", section="NPLP", options=OPTIONS)
class NoisyPseudoLabelProcessing:
    """Noisy pseudo-label processing: lines 4 to 11 of Algorithm 1.

    Its state is the lookup table V [c, D] as training has moved it, the first iteration's epsilon_e and, with
    that loss, the camera proxies.

    Args:
        cfg: the configuration.
        model: without a wrapper.

    Raises:
        UserError: if the model has no center-contrastive loss.
    """

    corrects = True

    def __init__(self, cfg: CfgNode, model: NPLP) -> None:
        require(cfg, CENTER_CONTRASTIVE)
        self._cfg = cfg
        self._model = model
        loss = model.criteria[CENTER_CONTRASTIVE]
        assert isinstance(loss, CenterContrastiveLoss)
        self._loss = loss
        self._proxies = CameraProxies(model)
        self._first_epsilon = 0.0
        self._first_neighbours = (0, 0)

    def label(
        self,
        iteration: int,
        features: torch.Tensor,
        cameras: np.ndarray,
        constraints: Constraints | None = None,
    ) -> Labelling:
        """Estimate pseudo-labels by eq. 4 and, after the startup stage, correct them by eqs. 6-9."""
        options = self._cfg.NPLP
        distances = self._with_neighbours(
            DistanceSettings.of(options, options.NORMALIZE), features, cameras, iteration
        )
        frozen = options.EPSILON_UPDATE == "first" and iteration > 1
        estimate = estimate_pseudo_labels(
            distances.prepare(features),
            cameras,
            alpha=options.ALPHA or None,
            beta=options.BETA,
            min_samples=options.MIN_SAMPLES,
            noisy_fraction=options.NOISY_FRACTION,
            correct=iteration > options.STARTUP_ITERATIONS,
            assessment_distance=options.ASSESSMENT_DISTANCE or None,
            correction_distance=options.CORRECTION_DISTANCE or None,
            noisy=options.NOISY,
            dissolved=options.DISSOLVED,
            reclustered_outliers=options.RECLUSTERED_OUTLIERS,
            epsilon=self._first_epsilon if frozen else None,
            giant_share=options.RULES.GIANT_SHARE if options.RULES.GIANT_CLUSTER == "lower" else None,
            equal_scores=options.RULES.EQUAL_SCORES,
            constraints=constraints,
            **distances.keywords(),
        )
        self._first_epsilon = self._first_epsilon or estimate.epsilon_e
        return Labelling(estimate, distances)

    def begin_iteration(self, features: torch.Tensor, labels: np.ndarray, cameras: np.ndarray) -> float:
        """Start V as the clusters' means of f_r; return the largest logit of the literal loss."""
        f_bn = self._neck_features(features)
        self._proxies.begin(f_bn, labels, cameras)
        f_r = torch.relu(f_bn)
        table = cluster_centroids(f_r, torch.from_numpy(labels), int(labels.max()) + 1)
        self._loss.reset(table)
        if self._loss.normalize:
            return 0.0
        return max(float((block @ table.T).max()) for block in f_r.split(LOGIT_BLOCK))

    def losses(self, output: HeadOutput, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Return the losses of MODEL.LOSSES.NAME: eq. 12."""
        return self._model.losses(output, batch)

    def state_dict(self) -> dict[str, Any]:
        """Return V as it stands now, the first epsilon, a choice of k1 and k2, and the camera proxies."""
        chosen = {"first_neighbours": self._first_neighbours} if self._first_neighbours[0] else {}
        return {
            "table": self._loss.table.detach().cpu().clone(),
            "first_epsilon": self._first_epsilon,
            **chosen,
            **self._proxies.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take V without normalising it again, the first epsilon and the camera proxies."""
        if state["table"].numel():
            self._loss.restore(state["table"])
        self._proxies.load_state_dict(state)
        self._first_epsilon = float(state["first_epsilon"])
        self._first_neighbours = tuple(state.get("first_neighbours", (0, 0)))

    def _with_neighbours(
        self, distances: DistanceSettings, features: torch.Tensor, cameras: np.ndarray, iteration: int
    ) -> DistanceSettings:
        """Return the distances with the k1 and k2 that are chosen where K1 is 0, those of the first time."""
        if distances.k1:
            return distances
        if not self._first_neighbours[0]:
            found = choose_neighbours(
                distances.prepare(features),
                cameras,
                min_samples=self._cfg.NPLP.MIN_SAMPLES,
                camera_centering=distances.camera_centering,
                camera_scaling=distances.camera_scaling,
            )
            logger.info("Iteration %d: %s", iteration, found)
            self._first_neighbours = found.k1, found.k2
        k1, k2 = self._first_neighbours
        return replace(distances, k1=k1, k2=k2)

    @torch.no_grad()
    def _neck_features(self, features: torch.Tensor) -> torch.Tensor:
        """Return f_bn = BN(f_e) of all images in evaluation mode, ``[N, D]`` float32 on the CPU.

        Where the model's feature is f_bn or f_r already, it is returned as it is: f_r has lost what of f_bn
        is below 0, so that camera proxies then start without it, and have it from the first steps on.
        """
        neck = self._model.heads.neck
        assert neck is not None, "a model without losses cannot be trained"
        if self._model.heads.output != EMBEDDING:
            return features.cpu()
        was_training = neck.training
        neck.eval()
        # Of the neck's precision: a model may be of float64.
        blocks = [neck[0](block.to(neck[0].weight)).float().cpu() for block in features.split(NECK_BLOCK)]
        neck.train(was_training)
        return torch.cat(blocks)
