"""The pseudo-label stage: distances, epsilon, DBSCAN, self-assessment, correction and label quality."""

from nplp.clustering.agreement import label_agreement
from nplp.clustering.assessment import score_weights
from nplp.clustering.cameras import camera_entropies, camera_entropy_weights, cross_camera_share
from nplp.clustering.changes import ConstraintChanges
from nplp.clustering.constraints import Constraints, average_by_component, build_constraints
from nplp.clustering.estimate import estimate_pseudo_labels
from nplp.clustering.neighbourhood import choose_neighbours
from nplp.clustering.quality import label_quality
from nplp.clustering.results import OUTLIER, LabelQuality, PseudoLabels
from nplp.clustering.self_paced import self_paced_labels
from nplp.clustering.singles import outliers_as_clusters

__all__ = [
    "OUTLIER",
    "ConstraintChanges",
    "Constraints",
    "LabelQuality",
    "PseudoLabels",
    "average_by_component",
    "build_constraints",
    "camera_entropies",
    "camera_entropy_weights",
    "choose_neighbours",
    "cross_camera_share",
    "estimate_pseudo_labels",
    "label_agreement",
    "label_quality",
    "outliers_as_clusters",
    "score_weights",
    "self_paced_labels",
]
