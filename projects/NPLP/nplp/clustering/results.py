"""What the pseudo-label stage returns.

Shapes: N samples, c startup clusters, c' clusters after correction, K noisy clusters.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import numpy as np

from nplp.clustering.changes import ConstraintChanges

__all__ = ["OUTLIER", "LabelQuality", "PseudoLabels"]

OUTLIER = -1
"""The label of a sample in no cluster, as in scikit-learn."""


@dataclass(frozen=True)
class PseudoLabels:
    """Pseudo-labels of one iteration, with the quantities they were made from.

    Attributes:
        labels: [N] int64, 0..c'-1 without gaps, -1 for outliers; after correction. Clusters that were not
            clustered again come first, in the order of `startup_labels`; the sub-clusters of the noisy ones
            follow, by startup cluster and within it in the order of DBSCAN. Equal to `startup_labels` where
            correction was not asked for.
        startup_labels: [N] int64, 0..c-1, -1 for outliers: X_t^m of eq. 5.
        epsilon_e: radius of the startup stage, in units of the distance: that of eq. 4, or lower where a
            giant cluster was broken up.
        epsilon_c: radius of the correcting stage (eq. 9), beta epsilon_e.
        self_assessment: [c] float64 in [-1, 1], the score S_k of each startup cluster (eq. 8); empty where
            correction was not asked for.
        noisy_clusters: [K] int64, the startup clusters that were clustered again, lowest score first.
        dissolved_clusters: [at most K] int64, those of them that had no sub-cluster at epsilon_c, ascending.
        pairs: N of eq. 4, the number of pairs that `epsilon_e` was chosen among; 0 where epsilon was given.
        averaged_pairs: how many of them were averaged, round(alpha N); 0 where epsilon was given.
        literal_epsilon: the radius of eq. 4, or that given; `epsilon_e` but for giant clusters.
        giant_clusters: what became of clusters that held too great a share: "lowered" where epsilon was, for
            there to be none, "dropped" where they became outliers; empty where there was none, or where
            they were not looked for.
        alpha: of eq. 4, as given or as chosen; 0 where epsilon was given.
        changes: what constraints changed, after the startup stage and after correction together; None without
            constraints. With them `startup_labels` and `labels` are what they left.
        unconstrained_labels: [N] int64, what constraints changed the last time: the clusters of DBSCAN or,
            where correction was asked for, what it made of them; empty without constraints.
        alpha_trials: [T, 4] float64, where alpha was chosen: of each guess the number of people (alpha is 0.9
            / guess), epsilon, the number of clusters and the share of samples in them.
        also_labels: [R, N] int64, the clusters of DBSCAN at R further radii, where any were asked for.
    """

    labels: np.ndarray
    startup_labels: np.ndarray
    epsilon_e: float
    epsilon_c: float
    self_assessment: np.ndarray
    noisy_clusters: np.ndarray
    dissolved_clusters: np.ndarray
    pairs: int
    averaged_pairs: int
    literal_epsilon: float
    giant_clusters: str
    alpha: float = 0.0
    alpha_trials: np.ndarray = field(default_factory=lambda: np.empty((0, 4)))
    changes: ConstraintChanges | None = None
    unconstrained_labels: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    also_labels: np.ndarray = field(default_factory=lambda: np.empty((0, 0), dtype=np.int64))

    @property
    def num_clusters(self) -> int:
        """Number of clusters after correction, c'."""
        return int(self.labels.max(initial=OUTLIER)) + 1

    @property
    def num_startup_clusters(self) -> int:
        """Number of clusters before correction, c."""
        return int(self.startup_labels.max(initial=OUTLIER)) + 1

    @property
    def num_outliers(self) -> int:
        """Number of samples without a pseudo-label after correction."""
        return int((self.labels == OUTLIER).sum())

    @property
    def largest_cluster_share(self) -> float:
        """Share in [0, 1] of the clustered samples that the largest cluster holds; 0 without clusters."""
        clustered = self.labels[self.labels != OUTLIER]
        return float(np.bincount(clustered).max() / clustered.size) if clustered.size else 0.0


@dataclass(frozen=True)
class LabelQuality:
    """How pseudo-labels agree with identities; every ratio is a fraction in [0, 1] (`ari` in [-0.5, 1]).

    Attributes:
        precision: share of the pairs within a cluster that are of one identity.
        recall: share of the pairs of one identity that are within a cluster.
        f1: harmonic mean of the two.
        cross_camera_recall: recall over pairs of different cameras; None where cameras are not given.
        nmi: normalised mutual information (arithmetic mean of the entropies).
        ari: adjusted Rand index.
        mixed_noise: share of the clustered samples whose identity is not the majority of their cluster.
        fragmented_noise: share of the pairs of one identity that are split apart, 1 - recall.
        clusters: number of clusters.
        outliers: number of samples in no cluster.
        largest_cluster_share: share of the clustered samples that the largest cluster holds.
    """

    precision: float
    recall: float
    f1: float
    cross_camera_recall: float | None
    nmi: float
    ari: float
    mixed_noise: float
    fragmented_noise: float
    clusters: int
    outliers: int
    largest_cluster_share: float

    def as_dict(self) -> dict[str, float | int | None]:
        """Return the values by name, as plain numbers that can be written as JSON."""
        return asdict(self)
