"""SSG: self-similarity grouping of images and of their stripes (Fu et al., ICCV 2019, arXiv 1811.10144).

The whole image and two stripes of PAP's pooled feature are clustered each by itself, with a radius of its own
from the first iteration (see :mod:`nplp.methods.first_radius`). An image that is an outlier in any of them is
left out. Triplet losses, see :func:`nplp.losses.pair_triplet_loss`: of an embedding of the whole image with
the labels of the whole, and of the whole and of each stripe with its own labels. Batches are drawn by the
labels of the whole, and positives are taken from the images that were drawn together, whatever the stripe's
labels say of them, as the authors' code does. Whole and stripes together are evaluated.

Where it differs from its authors' code:

* The embedding there is ReLU(BN(FC(whole))) of 2048 values. Here it is the whole image's part of f_r =
  ReLU(BN(f_e)).
* Features are those of the image alone; theirs are the mean of the image's and its mirror image's.
* The distance to the source images, a tenth of theirs, is left out, as a method sees the target alone.

Shapes: N target images, C values of a stripe, B images in a batch.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from fastreid.config import CfgNode

from nplp.clustering import OUTLIER, Constraints, PseudoLabels
from nplp.errors import UserError
from nplp.losses import PairTripletLoss
from nplp.losses.registry import PAIR_TRIPLET
from nplp.methods.first_radius import FIRST_RADIUS, check_first_radius, first_radius_labels
from nplp.methods.protocol import DistanceSettings, Labelling
from nplp.methods.registry import refuse_tables, register_method, require
from nplp.modeling import NPLP, HeadOutput

__all__ = ["SelfSimilarityGrouping"]

PARTS = 3
"""The whole and two stripes: the granularities 1 and 2 of PAP."""


@register_method("ssg", options=FIRST_RADIUS)
class SelfSimilarityGrouping:
    """Clusters whole and stripes each by itself and trains each with its own labels.

    Its state is each part's radius and labels.

    Args:
        cfg: the configuration.
        model: without a wrapper.

    Raises:
        UserError: if the model's losses or head are not those of the method, or an option is out of its
            range.
    """

    def __init__(self, cfg: CfgNode, model: NPLP) -> None:
        require(cfg, PAIR_TRIPLET, "f_e")
        refuse_tables(cfg, model)
        others = sorted({*cfg.MODEL.LOSSES.NAME} - {PAIR_TRIPLET})
        heads = cfg.MODEL.HEADS
        for key, value, holds, rule in (
            ("MODEL.HEADS.PAP", heads.PAP, heads.PAP == 2, "2 (the whole and two stripes)"),
            ("MODEL.HEADS.FUSION", heads.FUSION, heads.FUSION == "concat", "'concat'"),
            ("MODEL.LOSSES.NAME", others, not others, f"({PAIR_TRIPLET!r},) alone"),
        ):
            if not holds:
                raise UserError(f"{key} must be {rule} with NPLP.METHOD 'ssg', got {value!r}")
        self._options = cfg.NPLP.SSG
        check_first_radius("NPLP.SSG", self._options)
        self._width = model.heads.embedding_dim // PARTS
        loss = model.criteria[PAIR_TRIPLET]
        assert isinstance(loss, PairTripletLoss)
        self._loss = loss
        self._epsilons = [0.0] * PARTS
        self._found = np.empty((PARTS, 0), dtype=np.int64)
        self._labels = torch.empty(PARTS, 0, dtype=torch.int64)

    def label(
        self,
        iteration: int,
        features: torch.Tensor,
        cameras: np.ndarray,
        constraints: Constraints | None = None,
    ) -> Labelling:
        """Cluster the L2-normalised features of whole and stripes; the labels are those of the whole.

        What the log and the page show of radius and distances is that of the whole.
        """
        del iteration
        options = self._options
        distances = DistanceSettings("relative_jaccard", k1=options.K1, k2=options.K2, columns=self._width)
        estimates = [
            first_radius_labels(options, distances, part, cameras, epsilon, constraints)
            for part, epsilon in zip(features.split(self._width, dim=1), self._epsilons, strict=True)
        ]
        self._epsilons = [estimate.epsilon_e for estimate in estimates]
        self._found = np.stack([estimate.labels for estimate in estimates])
        return Labelling(
            _inside_everywhere(estimates[0], self._found), distances, "NPLP.SSG.RHO", "NPLP.SSG.MIN_SAMPLES"
        )

    def begin_iteration(self, features: torch.Tensor, labels: np.ndarray, cameras: np.ndarray) -> float:
        """Take the stripes' labels, but where a rule keeps the labels of the iteration before."""
        del features, cameras
        inside = labels != OUTLIER
        pairs = np.unique(np.stack([labels[inside], self._found[0, inside]]), axis=1)
        # Clusters of this iteration's whole, or some of them, under other numbers.
        if (self._found[:, inside] != OUTLIER).all() and all(
            len(np.unique(row)) == pairs.shape[1] for row in pairs
        ):
            self._labels = torch.from_numpy(self._found.copy())
        return 0.0

    def losses(self, output: HeadOutput, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Return the loss of the embedding, and those of whole and stripes added up."""
        assert output.f_r is not None
        targets, weights = batch["targets"], batch.get("weights")
        own = self._labels[:, batch["indices"].cpu()].to(targets.device)
        parts = [
            self._loss(part, labels, targets, weights)
            for part, labels in zip(output.f_e.split(self._width, dim=1), own, strict=True)
        ]
        embedding = self._loss(output.f_r[:, : self._width], targets, weights=weights)
        return {"loss_pairs": embedding, "loss_parts": torch.stack(parts).sum()}

    def state_dict(self) -> dict[str, Any]:
        """Return each part's radius, 0 before the first iteration, and labels [3, N]."""
        return {"epsilons": list(self._epsilons), "labels": self._labels.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the radii and the labels."""
        self._epsilons = [float(epsilon) for epsilon in state["epsilons"]]
        self._labels = state["labels"].clone()


def _inside_everywhere(whole: PseudoLabels, labels: np.ndarray) -> PseudoLabels:
    """Return the whole's estimate without the images that are an outlier in any of ``labels`` [3, N]."""
    inside = (labels != OUTLIER).all(axis=0)
    kept = np.full(labels.shape[1], OUTLIER, dtype=np.int64)
    kept[inside] = np.unique(labels[0, inside], return_inverse=True)[1].reshape(-1)
    return replace(whole, labels=kept)
