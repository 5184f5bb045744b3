"""UDA: self-training with a radius from the first iteration (Song et al., arXiv 1807.11334).

DBSCAN on the k-reciprocal Jaccard distance of the pooled features, as long as the network gives them; a
radius that is the mean of the smallest share of all distances above 0 of the first iteration, and is kept;
triplet losses, see :func:`nplp.losses.pair_triplet_loss`, of the pooled feature and of an embedding. The
pooled feature is evaluated, by its Euclidean distance.

Where it differs from its authors' code:

* The embedding there is ReLU(BN(FC(pooled))) of 2048 values, whose layer the source training has made. Here
  it is f_r = ReLU(BN(f_e)) of the head, without a fully connected layer where MODEL.HEADS.FUSION is "concat".
* A tenth of their distance is how far both images are from the nearest source image; a method here sees the
  target alone, and the term is left out. For a squared distance from 17 on it is, in their half precision,
  the same for every pair, and changes no label.
* Their features and distances are in half precision.
* Their images are neither padded nor cropped, and their rate is 6e-5 by SGD without decay of the weights:
  a matter of the configuration (configs/methods/uda.yml).

Their clamp of the gradient has no effect, and there is none here.

Shapes: N target images, B images in a batch.
"""

from typing import Any

import numpy as np
import torch
from fastreid.config import CfgNode

from nplp.clustering import Constraints
from nplp.losses import PairTripletLoss
from nplp.losses.registry import PAIR_TRIPLET
from nplp.methods.first_radius import FIRST_RADIUS, check_first_radius, first_radius_labels
from nplp.methods.protocol import DistanceSettings, Labelling
from nplp.methods.registry import refuse_tables, register_method, require
from nplp.modeling import NPLP, HeadOutput

__all__ = ["SelfTraining"]


@register_method("uda", options=FIRST_RADIUS)
class SelfTraining:
    """Clusters by the first iteration's radius and trains with triplets on the pooled feature and f_r.

    Its state is the radius.

    Args:
        cfg: the configuration.
        model: without a wrapper.

    Raises:
        UserError: if the model's losses or feature are not those of the method, or an option is out of its
            range.
    """

    def __init__(self, cfg: CfgNode, model: NPLP) -> None:
        require(cfg, PAIR_TRIPLET, "f_e")
        refuse_tables(cfg, model)
        self._options = cfg.NPLP.UDA
        check_first_radius("NPLP.UDA", self._options)
        self._model = model
        loss = model.criteria[PAIR_TRIPLET]
        assert isinstance(loss, PairTripletLoss)
        self._loss = loss
        self._epsilon = 0.0

    def label(
        self,
        iteration: int,
        features: torch.Tensor,
        cameras: np.ndarray,
        constraints: Constraints | None = None,
    ) -> Labelling:
        """Cluster the features, which are not normalised."""
        del iteration
        options = self._options
        distances = DistanceSettings("relative_jaccard", normalize=False, k1=options.K1, k2=options.K2)
        estimate = first_radius_labels(options, distances, features, cameras, self._epsilon, constraints)
        self._epsilon = self._epsilon or estimate.epsilon_e
        return Labelling(estimate, distances, "NPLP.UDA.RHO", "NPLP.UDA.MIN_SAMPLES")

    def begin_iteration(self, features: torch.Tensor, labels: np.ndarray, cameras: np.ndarray) -> float:
        """There is no memory."""
        del features, labels, cameras
        return 0.0

    def losses(self, output: HeadOutput, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Return the losses of MODEL.LOSSES.NAME, with that of pairs of f_r, and that of pairs of f_e."""
        losses = self._model.losses(output, batch)
        losses["loss_pooled"] = self._loss(output.f_e, batch["targets"], weights=batch.get("weights"))
        return losses

    def state_dict(self) -> dict[str, Any]:
        """Return the radius, 0 before the first iteration."""
        return {"epsilon": self._epsilon}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the radius."""
        self._epsilon = float(state["epsilon"])
