"""Giant clusters, which chain a great share of all samples together, and a radius without them.

The paper takes epsilon of eq. 4 as it is. Where epsilon is so great that chains join most samples, the labels
say next to nothing, and both losses of eq. 12 vanish.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nplp.clustering.dbscan import cluster, cluster_and_cores
from nplp.clustering.results import OUTLIER
from nplp.clustering.sweep import Distances

__all__ = ["DROPPED", "LOWERED", "cluster_without_giants", "is_giant"]

LOWERED = "lowered"
"""Epsilon was lowered until no cluster was a giant."""
DROPPED = "dropped"
"""No radius broke the giants up, so that their samples are outliers."""

_STEP = 0.9
_MOST_STEPS = 88
"""Down to a ten-thousandth of epsilon."""


def is_giant(labels: np.ndarray, share: float) -> np.ndarray:
    """Return [c] bool: which clusters hold `share` or more of all samples, outliers included.

    Args:
        labels: [N] int64, 0..c-1 without gaps, -1 for outliers.
        share: in (0, 1].
    """
    return np.bincount(labels[labels != OUTLIER]) >= share * len(labels)


def cluster_without_giants(
    distances: Distances, epsilon: float, min_samples: int, share: float
) -> tuple[np.ndarray, float, str]:
    """Return DBSCAN labels without a cluster of `share` or more of all samples.

    Where `epsilon` makes such a cluster, it is lowered by a tenth at a time until there is none. Giants that
    no radius breaks up, such as duplicates of one image, become outliers.

    The steps are not all tried. Core samples that are together at a radius are together at every greater one,
    so that a cluster with giant cores at a step means giants at all steps before it: the first step without
    such cores is found by bisection. Samples on a border may be of another cluster at another radius; they
    can make a giant of what has no giant cores, and so the steps from there on are tried one by one.

    Args:
        distances: among N samples.
        epsilon: radius that eq. 4 gives.
        min_samples: neighbours that make a core sample, itself included.
        share: of all samples, in (0, 1].

    Returns:
        labels [N] int64, the radius, and "", `LOWERED` or `DROPPED`. Time: that of a clustering for each
        radius that is tried, some 14 at most but for giants that borders alone make.
    """
    radii = _Radii(distances, epsilon, min_samples, share)
    first = radii.labels(0)
    if not radii.has_giant(0):
        return first, epsilon, ""
    if epsilon > 0:
        for step in range(_first_without(radii.has_giant_cores), _MOST_STEPS + 1):
            if not radii.has_giant(step):
                return radii.labels(step), radii.radius(step), LOWERED
    return _dropped(first, share), epsilon, DROPPED


def _first_without(has: Callable[[int], bool]) -> int:
    """Return the first step of 0.._MOST_STEPS that lacks what no step after one without it has.

    Steps near the first are tried first: their distance doubles until one is without.

    Returns:
        The step, or _MOST_STEPS + 1 if there is none.
    """
    low, high, distance = 0, _MOST_STEPS + 1, 1
    while low < high:
        step = min(distance, _MOST_STEPS) if high > _MOST_STEPS else (low + high) // 2
        if has(step):
            low, distance = step + 1, 2 * distance
        else:
            high = step
    return low


class _Radii:
    """Clusterings at epsilon lowered by a tenth at a time; each is made once."""

    def __init__(self, distances: Distances, epsilon: float, min_samples: int, share: float) -> None:
        """Prepare clusterings with what `cluster_without_giants` takes."""
        self._distances, self._epsilon = distances, epsilon
        self._min_samples, self._share = min_samples, share
        self._giants: dict[int, tuple[bool, bool]] = {}
        self._labels: dict[int, np.ndarray] = {}

    def radius(self, step: int) -> float:
        """Return epsilon after a number of steps."""
        return self._epsilon * _STEP**step

    def has_giant(self, step: int) -> bool:
        """Tell whether a cluster at a step is a giant."""
        return self._try(step)[0]

    def has_giant_cores(self, step: int) -> bool:
        """Tell whether the core samples alone of a cluster at a step are as many as a giant."""
        return self._try(step)[1]

    def labels(self, step: int) -> np.ndarray:
        """Return the labels [N] at a step."""
        self._try(step)
        if step not in self._labels:
            self._labels[step] = cluster(self._distances, self.radius(step), self._min_samples)
        return self._labels[step]

    def _try(self, step: int) -> tuple[bool, bool]:
        """Return whether there is a giant at a step, and whether there is one of core samples alone."""
        if step not in self._giants:
            labels, is_core = cluster_and_cores(self._distances, self.radius(step), self._min_samples)
            giant = bool(is_giant(labels, self._share).any())
            cores = giant and bool(is_giant(np.where(is_core, labels, OUTLIER), self._share).any())
            self._giants[step] = giant, cores
            if not giant and step:
                # Those of greater radii without a giant come later, and no other will be asked for.
                self._labels = {key: kept for key, kept in self._labels.items() if not key}
            if not giant or not step:
                self._labels[step] = labels
        return self._giants[step]


def _dropped(labels: np.ndarray, share: float) -> np.ndarray:
    """Return labels [N] without the giants, whose samples become outliers."""
    giant = is_giant(labels, share)
    renumbered = np.append(np.where(giant, OUTLIER, np.cumsum(~giant) - 1), OUTLIER)
    return renumbered[labels].astype(np.int64)
