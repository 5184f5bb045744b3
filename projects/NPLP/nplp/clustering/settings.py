"""The settings of the pseudo-label stage, checked once."""

from __future__ import annotations

from dataclasses import dataclass

from nplp.clustering import inputs
from nplp.clustering.without_epsilon import CLUSTERERS, DBSCAN

__all__ = [
    "ALL_PAIRS",
    "CAMERA_JACCARD",
    "DISSOLVED",
    "DISTANCES",
    "EPSILON_PAIRS",
    "EQUAL_SCORES",
    "NOISY",
    "RECLUSTERED",
    "RECLUSTERED_OUTLIERS",
    "RELATIVE_JACCARD",
    "Settings",
]

CAMERA_JACCARD = "camera_jaccard"
RELATIVE_JACCARD = "relative_jaccard"
DISTANCES = ("jaccard", "euclidean", CAMERA_JACCARD, RELATIVE_JACCARD)
DISSOLVED = ("drop", "keep")
RECLUSTERED_OUTLIERS = ("drop", "rejoin")
EQUAL_SCORES = ("order", "skip")
RECLUSTERED = "recluster"
NOISY = (RECLUSTERED, "drop", "keep")
ALL_PAIRS = "all"
EPSILON_PAIRS = ("across", ALL_PAIRS)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of `estimate_pseudo_labels`, which says what each one is.

    Raises:
        ValueError: if one is out of its range or of a wrong type; the message names it.
    """

    alpha: float | None
    beta: float
    min_samples: int
    noisy_fraction: float
    correct: bool
    distance: str
    assessment_distance: str | None
    k1: int
    k2: int
    k1_intra: int
    k1_inter: int
    k2_intra: int
    k2_inter: int
    camera_centering: bool
    camera_scaling: bool
    dissolved: str
    reclustered_outliers: str
    epsilon: float | None
    giant_share: float | None
    equal_scores: str
    epsilon_pairs: str = "across"
    clusterer: str = "dbscan"
    noisy: str = RECLUSTERED
    correction_distance: str | None = None

    def __post_init__(self) -> None:
        if self.alpha is not None:
            inputs.check_fraction("alpha", self.alpha)
        for name in ("beta", "noisy_fraction"):
            inputs.check_fraction(name, getattr(self, name))
        for name in ("min_samples", "k1", "k2", "k1_intra", "k1_inter", "k2_intra"):
            inputs.check_at_least(name, getattr(self, name), 1)
        inputs.check_at_least("k2_inter", self.k2_inter, 0)
        inputs.check_choice("distance", self.distance, DISTANCES)
        if self.assessment_distance is not None:
            inputs.check_choice("assessment_distance", self.assessment_distance, DISTANCES)
        if self.correction_distance is not None:
            inputs.check_choice("correction_distance", self.correction_distance, DISTANCES)
            if self.epsilon is not None and self.corrected_by != self.distance:
                raise ValueError(
                    f"correction_distance {self.correction_distance!r} takes its own radius from eq. 4, and "
                    f"epsilon {self.epsilon!r} is one of distance {self.distance!r}: leave epsilon out"
                )
        inputs.check_choice("noisy", self.noisy, NOISY)
        inputs.check_choice("dissolved", self.dissolved, DISSOLVED)
        inputs.check_choice("reclustered_outliers", self.reclustered_outliers, RECLUSTERED_OUTLIERS)
        inputs.check_choice("equal_scores", self.equal_scores, EQUAL_SCORES)
        inputs.check_choice("epsilon_pairs", self.epsilon_pairs, EPSILON_PAIRS)
        if self.epsilon_pairs == ALL_PAIRS and self.alpha is None and self.epsilon is None:
            raise ValueError("alpha must be given with epsilon_pairs 'all', got None")
        inputs.check_choice("clusterer", self.clusterer, CLUSTERERS)
        if self.clusterer != DBSCAN:
            self._check_without_epsilon()
        if self.camera_scaling and not self.camera_centering:
            raise ValueError("camera_scaling needs camera_centering, got False: turn it on, or scaling off")
        if self.giant_share is not None:
            inputs.check_fraction("giant_share", self.giant_share)
        inputs.check_epsilon(self.epsilon)

    def _check_without_epsilon(self) -> None:
        """Check what goes with a clusterer that has no radius."""
        for holds, rule in (
            (self.distance != "euclidean", "a Jaccard distance, got distance 'euclidean'"),
            (not self.correct, "correct False, as the correcting stage clusters by radii"),
            (self.giant_share is None, "giant_share None, as there is no radius to lower"),
            (self.epsilon is not None, "an epsilon, which it does not use, in place of eq. 4: give 1.0"),
        ):
            if not holds:
                raise ValueError(f"clusterer {self.clusterer!r} needs {rule}")

    @property
    def assessed_by(self) -> str:
        """The distance of eqs. 6-8."""
        return self.assessment_distance or self.distance

    @property
    def corrected_by(self) -> str:
        """The distance of eq. 9."""
        return self.correction_distance or self.distance
