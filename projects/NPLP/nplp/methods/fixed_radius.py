"""Labels by one clusterer with the same settings in every iteration, for the methods with a memory.

Shapes: N target images, D values of a feature.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from fastreid.config import CfgNode

from nplp.clustering import Constraints, estimate_pseudo_labels
from nplp.clustering.without_epsilon import CLUSTERERS, missing_library
from nplp.errors import UserError
from nplp.methods.protocol import DistanceSettings, Labelling
from nplp.methods.registry import check_options, neighbour_rules

__all__ = ["CLUSTERER", "FixedRadius", "check_radius", "radius_options"]

DISTANCES = ("jaccard", "camera_jaccard")

CLUSTERER = {
    # What clusters: "dbscan" by EPSILON, or without a radius "hdbscan" or "infomap", which need the packages
    # fast_hdbscan and infomap. All count MIN_SAMPLES; see nplp/clustering/without_epsilon.py.
    "CLUSTERER": "dbscan",
}


def radius_options(epsilon: float, k1: int) -> Mapping[str, Any]:
    """Return the options of a method's section that say how it clusters, with two of its own defaults."""
    return {
        # DBSCAN's radius in the Jaccard distance, the same in every iteration.
        "EPSILON": epsilon,
        "MIN_SAMPLES": 4,
        # Neighbours of the Jaccard distance and of its query expansion, the image itself among them.
        "K1": k1,
        "K2": 6,
        # "jaccard", or "camera_jaccard" with the four numbers of neighbours below (see NPLP.DISTANCE), whose
        # authors take EPSILON 0.4 for Market-1501 and 0.6 for MSMT17.
        "DISTANCE": "jaccard",
        "K1_INTRA": 5,
        "K1_INTER": 20,
        "K2_INTRA": 2,
        "K2_INTER": 4,
        # Subtract each camera's mean feature first; divide by its deviations too (see NPLP.CAMERA_SCALING).
        "CAMERA_CENTERING": False,
        "CAMERA_SCALING": False,
    }


def check_radius(section: str, options: CfgNode) -> None:
    """Check the options of `radius_options`.

    Raises:
        UserError: naming the first key whose value is out of its range.
    """
    check_options(
        section,
        options,
        ("EPSILON", 0 < options.EPSILON <= 1, "in (0, 1]"),
        *neighbour_rules(section, options),
        ("DISTANCE", options.DISTANCE in DISTANCES, f"one of {DISTANCES}"),
        ("K1_INTRA", options.K1_INTRA >= 1, "at least 1"),
        ("K1_INTER", options.K1_INTER >= 1, "at least 1"),
        ("K2_INTRA", options.K2_INTRA >= 1, "at least 1"),
        ("K2_INTER", options.K2_INTER >= 0, "at least 0"),
        (
            "CAMERA_SCALING",
            options.CAMERA_CENTERING or not options.CAMERA_SCALING,
            f"False unless {section}.CAMERA_CENTERING is True",
        ),
    )


class FixedRadius:
    """Clusters L2-normalised features at a fixed radius, or by a clusterer that has none.

    Args:
        options: a method's section, with the keys of :func:`radius_options` and `CLUSTERER`.
        section: its dotted name, for messages.

    Raises:
        UserError: if an option is out of its range.
    """

    def __init__(self, options: CfgNode, section: str) -> None:
        check_radius(section, options)
        check_options(
            section, options, ("CLUSTERER", options.CLUSTERER in CLUSTERERS, f"one of {CLUSTERERS}")
        )
        if missing := missing_library(options.CLUSTERER):
            raise UserError(
                f"{section}.CLUSTERER {options.CLUSTERER!r} needs the package {missing}, which is not "
                f"installed: pip install 'nplp[{options.CLUSTERER}]'"
            )
        self._options = options
        self._section = section

    def label(
        self, features: torch.Tensor, cameras: np.ndarray, constraints: Constraints | None = None
    ) -> Labelling:
        """Return the pseudo-labels of features [N, D] and cameras [N] int64."""
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
        return Labelling(estimate, distances, f"{self._section}.EPSILON", f"{self._section}.MIN_SAMPLES")
