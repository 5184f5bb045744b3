"""A first estimate of how many people there are, and of alpha (eq. 4) with it, from features alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from nplp.clustering.dbscan import cluster
from nplp.clustering.epsilon import startup_epsilon
from nplp.clustering.inputs import as_features, as_integer_ids, check_at_least
from nplp.clustering.jaccard import jaccard_distances
from nplp.clustering.reciprocal import reciprocal_encoding
from nplp.clustering.results import OUTLIER
from nplp.clustering.sweep import Distances, FeatureRows, Progress

__all__ = ["PeopleEstimate", "Trial", "alpha_of", "choose_alpha", "estimate_people"]

SHARE = 0.9
"""alpha times the number of people: a little less than the share of pairs that are of one person."""

FEWEST = 4
"""People from which guesses begin."""

LOST = 0.5
"""Share of the best score so far below which further guesses are not tried."""


def alpha_of(people: float) -> float:
    """Return alpha of eq. 4 for so many people of about as many images each, in (0, 1].

    With P people a pair of images is of one person with probability 1 / P; docs/pseudo_labels.md says why
    alpha should be a little less.

    Raises:
        ValueError: if ``people`` is below 1.
    """
    if not people >= 1:
        raise ValueError(f"people must be at least 1, got {people}")
    return SHARE / people


@dataclass(frozen=True)
class Trial:
    """What one guess of the number of people gave.

    Attributes:
        guess: the guessed number; alpha is 0.9 / guess.
        epsilon: the radius of eq. 4.
        clusters: how many clusters it gave.
        clustered: share of the images that are in one.
    """

    guess: float
    epsilon: float
    clusters: int
    clustered: float

    @property
    def score(self) -> float:
        """Clusters times the squared share of images in them."""
        return self.clusters * self.clustered**2


@dataclass(frozen=True)
class PeopleEstimate:
    """A first estimate.

    Attributes:
        people: the number of clusters at ``alpha``, at least 1: the estimate of the number of people.
        alpha: the value of eq. 4 to cluster with. It is not 0.9 / people where the features tell people
            badly apart: pairs of other people are then among the closest, and alpha has to be smaller.
        trials: all that was tried, by the guess.
    """

    people: int
    alpha: float
    trials: tuple[Trial, ...]


def estimate_people(
    features: torch.Tensor | np.ndarray,
    camera_ids: torch.Tensor | np.ndarray | Sequence[int] | None,
    *,
    min_samples: int = 4,
    k1: int = 20,
    k2: int = 6,
    camera_centering: bool = True,
    progress: bool = False,
) -> PeopleEstimate:
    """Estimate the number of people and alpha from the clusters that several values of alpha give.

    A large alpha chains the images of many people into few clusters. A small one leaves most images outside
    of all clusters. Between them, the number of clusters times the squared share of images in clusters has
    its greatest value, and that alpha is taken. The square was chosen: without it alpha is too small, and
    links across cameras are lost, which costs more than wrong ones. Guesses of the number of people are
    doubled until the score has fallen to half of its best; then those at half the step beside the best one
    are tried.

    No identity is looked at. People with fewer than ``min_samples`` images make no cluster and are not
    counted. The rule is the project's own; docs/use_a_model.md says how far off it was where the number of
    people is known.

    Args:
        features: [N, D], as for :func:`nplp.clustering.estimate_pseudo_labels`; normalise them first.
        camera_ids: [N] integers; ``None`` where unknown.
        min_samples: of DBSCAN.
        k1: neighbours of the Jaccard distance.
        k2: neighbours of its local query expansion.
        camera_centering: subtract each camera's mean feature first.
        progress: show a progress bar on the standard error where that is a terminal.

    Returns:
        The estimate. Time: the Jaccard neighbours once, and some ten to fifteen clusterings; memory as for
        one of them.

    Raises:
        ValueError: as :func:`nplp.clustering.estimate_pseudo_labels`.
    """
    for name, value in (("min_samples", min_samples), ("k1", k1), ("k2", k2)):
        check_at_least(name, value, 1)
    values = as_features(features)
    cameras = None if camera_ids is None else as_integer_ids("camera_ids", camera_ids, len(values))
    on_device = features.detach() if isinstance(features, torch.Tensor) and features.is_cuda else None
    rows = FeatureRows.prepared(values, cameras, camera_centering, False, on_device)
    distances = jaccard_distances(reciprocal_encoding(rows, k1, k2, Progress(progress)), Progress(False))
    return choose_alpha(distances, cameras, min_samples, progress)


def choose_alpha(
    distances: Distances, camera_ids: np.ndarray | None, min_samples: int, progress: bool = False
) -> PeopleEstimate:
    """Return the estimate of :func:`estimate_people` for given distances.

    Args:
        distances: among N samples.
        camera_ids: [N] int64; ``None`` where unknown.
        min_samples: of DBSCAN.
        progress: show a progress bar on the standard error where that is a terminal.
    """
    with tqdm(desc="Number of people", unit="guess", leave=False, disable=None if progress else True) as bar:

        def attempt(guess: float) -> Trial:
            bar.update()
            return _attempt(distances, camera_ids, guess, min_samples)

        trials = _search(attempt, len(distances))
    best = max(trials, key=lambda trial: trial.score)
    return PeopleEstimate(max(1, best.clusters), alpha_of(best.guess), tuple(trials))


def _attempt(distances: Distances, cameras: np.ndarray | None, guess: float, min_samples: int) -> Trial:
    """Cluster with alpha for a guessed number of people."""
    with warnings.catch_warnings():
        # That all pairs take the place of those across cameras is said once, by who clusters in the end.
        warnings.simplefilter("ignore")
        epsilon = startup_epsilon(distances, cameras, alpha_of(guess))[0]
    labels = cluster(distances, epsilon, min_samples)
    return Trial(guess, epsilon, int(labels.max(initial=OUTLIER)) + 1, float((labels != OUTLIER).mean()))


def _search(attempt: Callable[[float], Trial], count: int) -> list[Trial]:
    """Return trials by their guesses: doubled ones up to ``count`` images, and two beside the best."""
    trials: list[Trial] = []
    guess = float(min(FEWEST, count))
    while guess <= count:
        trials.append(attempt(guess))
        if trials[-1].score < LOST * max(trial.score for trial in trials):
            break
        guess *= 2
    best = max(trials, key=lambda trial: trial.score).guess
    beside = [best * step for step in (2**-0.5, 2**0.5) if 1 <= best * step <= count]
    return sorted([*trials, *map(attempt, beside)], key=lambda trial: trial.guess)
