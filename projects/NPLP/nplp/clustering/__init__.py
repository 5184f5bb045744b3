"""The pseudo-label stage: distances, epsilon, DBSCAN, self-assessment, correction and label quality."""

from nplp.clustering.estimate import estimate_pseudo_labels
from nplp.clustering.quality import label_quality
from nplp.clustering.results import OUTLIER, LabelQuality, PseudoLabels

__all__ = ["OUTLIER", "LabelQuality", "PseudoLabels", "estimate_pseudo_labels", "label_quality"]
