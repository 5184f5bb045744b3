"""Labels by DBSCAN at the radius of the first iteration, for UDA, SSG and MMT.

The radius is the mean of the smallest share of all distances above 0 of the first iteration, and is kept
(Song et al., arXiv 1807.11334, and those that follow it).

Shapes: N target images, D values of a feature.
"""

import numpy as np
import torch
from fastreid.config import CfgNode

from nplp.clustering import Constraints, PseudoLabels, estimate_pseudo_labels
from nplp.methods.protocol import DistanceSettings
from nplp.methods.registry import check_options, neighbour_rules

__all__ = ["FIRST_RADIUS", "check_first_radius", "first_radius_labels"]

FIRST_RADIUS = {
    # rho: DBSCAN's radius is the mean of this share of the distances above 0, the smallest, in the first
    # iteration. The authors' 0.0016 is 1.2 / 751 for Market-1501's identities; a target with other numbers
    # needs about 1.2 / identities.
    "RHO": 0.0016,
    "MIN_SAMPLES": 4,
    # Neighbours of the Jaccard distance, the image itself not counted, and of its query expansion, counted.
    "K1": 20,
    "K2": 6,
}
"""Options of the methods whose radius is that of the first iteration."""


def check_first_radius(section: str, options: CfgNode) -> None:
    """Check the options of `FIRST_RADIUS`.

    Raises:
        UserError: naming the first key whose value is out of its range.
    """
    check_options(
        section,
        options,
        ("RHO", 0 < options.RHO <= 1, "in (0, 1]"),
        *neighbour_rules(section, options),
    )


def first_radius_labels(
    options: CfgNode,
    distances: DistanceSettings,
    features: torch.Tensor,
    cameras: np.ndarray,
    epsilon: float,
    constraints: Constraints | None,
) -> PseudoLabels:
    """Cluster features.

    Args:
        options: with the keys of `FIRST_RADIUS`.
        distances: how distances are measured.
        features: [N, D] float32.
        cameras: [N] int64.
        epsilon: the first iteration's radius; 0 in the first iteration, whose result has it.
        constraints: which the labels should keep, if any.
    """
    return estimate_pseudo_labels(
        distances.prepare(features),
        cameras,
        alpha=options.RHO,
        epsilon_pairs="all",
        epsilon=epsilon or None,
        min_samples=options.MIN_SAMPLES,
        correct=False,
        constraints=constraints,
        **distances.keywords(),
    )
