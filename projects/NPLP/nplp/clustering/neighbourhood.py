"""How many neighbours an image needs (k1 of the Jaccard distance), from features and cameras alone.

k1 should be about the number of a person's images. Where a person has far more, as in the crops of a tracker,
an image's neighbours are of its own camera, and the person falls into many clusters; where it has far fewer,
neighbours are other people. Not in the paper, whose targets have some 16 images a person and k1 of 20.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from nplp.clustering.estimate import estimate_pseudo_labels
from nplp.clustering.inputs import as_features

__all__ = [
    "IMAGES_A_NEIGHBOUR",
    "USUAL_K1",
    "NeighbourTrial",
    "Neighbourhood",
    "choose_neighbours",
    "local_expansion",
]

USUAL_K1 = 20
"""k1 in the field, and in the paper."""

CANDIDATES = (USUAL_K1, 30, 40, 60, 90)
"""Values of k1 that are tried."""

FILLED = 0.7
"""Images of a cluster for each of the k1 neighbours, from which a person has as many images as k1."""

GIANT = 0.5
"""Share of the clustered images in one cluster, from which a trial tells nothing."""

IMAGES_A_NEIGHBOUR = 10
"""Images of the target for each neighbour: k1 is a tenth of them at most, but for the usual one."""


@dataclass(frozen=True)
class NeighbourTrial:
    """What a value of k1 gave.

    Attributes:
        k1: the value.
        clusters: how many clusters there were.
        images: the median of their numbers of images; 0 without a cluster, and where one holds half of the
            clustered images.
    """

    k1: int
    clusters: int
    images: float

    @property
    def filled(self) -> float:
        """Images of a cluster for each neighbour."""
        return self.images / self.k1


@dataclass(frozen=True)
class Neighbourhood:
    """A choice of k1 and k2.

    Attributes:
        k1: neighbours of the Jaccard distance.
        k2: neighbours of its local query expansion.
        trials: all that was tried, by k1; empty where there are too few images for a choice.
    """

    k1: int
    k2: int
    trials: tuple[NeighbourTrial, ...]

    def __str__(self) -> str:
        """Return the choice and what it rests on, in a line."""
        tried = ", ".join(f"{trial.k1}: {trial.images:g}" for trial in self.trials)
        seen = f"k1, and the images of a cluster by it: {tried}" if tried else "too few images for more"
        return f"k1 {self.k1} and k2 {self.k2} chosen; {seen}"


def local_expansion(k1: int) -> int:
    """Return k2 that goes with a k1: three tenths of it, 6 with the usual 20."""
    return max(1, 3 * k1 // 10)


def choose_neighbours(
    features: torch.Tensor | np.ndarray,
    camera_ids: torch.Tensor | np.ndarray | Sequence[int] | None,
    *,
    min_samples: int = 4,
    camera_centering: bool = True,
    camera_scaling: bool = False,
    progress: bool = False,
) -> Neighbourhood:
    """Choose k1 so that a cluster holds about as many images as an image has neighbours.

    The images are clustered (the startup stage by the Jaccard distance, alpha chosen from the features) with
    k1 of 20, 30, 40, 60 and 90. Clusters grow with k1 as long as a person has more images than that; then
    they stay as they are or mix people. The largest k1 is taken with which the median cluster holds at least
    0.7 k1 images; where there is none, the one with the most for each neighbour, the smallest of equals.
    No k1 above 20 is more than a tenth of the images. No identity is looked at. The rule is the project's
    own; docs/tracks.md says what it was chosen on and how it did elsewhere.

    Args:
        features: [N, D], as for :func:`nplp.clustering.estimate_pseudo_labels`; normalise them first.
        camera_ids: [N] integers; ``None`` where unknown.
        min_samples: of DBSCAN.
        camera_centering: as the labels are to be made.
        camera_scaling: likewise.
        progress: show progress bars on the standard error where that is a terminal.

    Returns:
        The choice. Time: five estimates of the startup stage with a chosen alpha; memory: that of one with
        k1 of 90, which holds some four times as many pairs as one with 20.

    Raises:
        ValueError: as :func:`nplp.clustering.estimate_pseudo_labels`.
    """
    count = len(as_features(features))
    candidates = [k1 for k1 in CANDIDATES if k1 == USUAL_K1 or k1 * IMAGES_A_NEIGHBOUR <= count]
    if len(candidates) == 1:
        return Neighbourhood(USUAL_K1, local_expansion(USUAL_K1), ())
    trials = []
    for k1 in tqdm(candidates, desc="Neighbours", leave=False, disable=None if progress else True):
        with warnings.catch_warnings():
            # What there is to say of cameras, the estimate says that the labels are made by.
            warnings.simplefilter("ignore")
            labels = estimate_pseudo_labels(
                features,
                camera_ids,
                alpha=None,
                min_samples=min_samples,
                correct=False,
                k1=k1,
                k2=local_expansion(k1),
                camera_centering=camera_centering,
                camera_scaling=camera_scaling,
            ).labels
        trials.append(_trial(k1, labels))
    full = [trial for trial in trials if trial.filled >= FILLED]
    k1 = full[-1].k1 if full else max(trials, key=lambda trial: trial.filled).k1
    return Neighbourhood(k1, local_expansion(k1), tuple(trials))


def _trial(k1: int, labels: np.ndarray) -> NeighbourTrial:
    """Return what labels [N], -1 for outliers, tell of the k1 that they are made by."""
    sizes = np.bincount(labels[labels >= 0])
    tells = len(sizes) and sizes.max() < GIANT * sizes.sum()
    return NeighbourTrial(k1, len(sizes), float(np.median(sizes)) if tells else 0.0)
