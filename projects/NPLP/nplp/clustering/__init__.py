"""The pseudo-label stage: distances, epsilon, DBSCAN, self-assessment, correction and label quality."""

from nplp.clustering.cameras import camera_entropies, camera_entropy_weights
from nplp.clustering.estimate import estimate_pseudo_labels
from nplp.clustering.quality import label_quality
from nplp.clustering.results import OUTLIER, LabelQuality, PseudoLabels

__all__ = [
    "OUTLIER",
    "LabelQuality",
    "PseudoLabels",
    "camera_entropies",
    "camera_entropy_weights",
    "estimate_pseudo_labels",
    "label_quality",
]
