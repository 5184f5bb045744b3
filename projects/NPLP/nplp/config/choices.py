"""Values of keys that are names of parts which other packages hold."""

__all__ = [
    "ACROSS_CAMERAS",
    "CAMERA_MEAN",
    "CAMERA_NONE",
    "CAMERA_STANDARDIZE",
    "CAMERA_TREATMENTS",
    "IDENTITIES",
    "OWN_IMAGES",
    "PKU_REID",
    "SAMPLERS",
    "SHUFFLED",
]

SHUFFLED = "TrainingSampler"
IDENTITIES = "NaiveIdentitySampler"
ACROSS_CAMERAS = "BalancedIdentitySampler"
SAMPLERS = (SHUFFLED, IDENTITIES, ACROSS_CAMERAS)
"""Values of ``DATALOADER.SAMPLER_TRAIN``: the toolbox's names for the classes of ``nplp.data.samplers``."""

CAMERA_NONE, CAMERA_MEAN, CAMERA_STANDARDIZE = CAMERA_TREATMENTS = ("none", "mean", "standardize")
"""Values of ``TEST.CAMERAS``: what ``nplp.modeling.camera_statistics`` does to features in evaluation."""

PKU_REID = "PKUReid"
"""The data set that ``DATASETS.PKU`` has options of."""

OWN_IMAGES = "OwnImages"
"""The data set that ``DATASETS.OWN`` describes."""
