"""Values of keys that are names of parts which other packages hold."""

from nplp.weights.own_heads import EMBEDDING, NECK_FEATURE, RECTIFIED_FEATURE

__all__ = [
    "ACROSS_CAMERAS",
    "AMP_TYPES",
    "AVERAGE",
    "BY_SHARES",
    "CAMERA_MEAN",
    "CAMERA_NONE",
    "CAMERA_PROXIES",
    "CAMERA_STANDARDIZE",
    "CAMERA_TREATMENTS",
    "EMBEDDING",
    "EVENLY",
    "GEM",
    "HEAD_FEATURES",
    "HEAD_FUSIONS",
    "HEAD_POOLINGS",
    "IDENTITIES",
    "NECK_FEATURE",
    "OWN_IMAGES",
    "PKU_REID",
    "RECTIFIED_FEATURE",
    "SAMPLERS",
    "SHUFFLED",
    "TRACKS_AVERAGED",
    "TRACKS_CONSTRAIN",
    "TRACKS_UNUSED",
    "TRACK_USES",
]

SHUFFLED = "TrainingSampler"
IDENTITIES = "NaiveIdentitySampler"
ACROSS_CAMERAS = "BalancedIdentitySampler"
CAMERA_PROXIES = "CameraProxySampler"
EVENLY = "CameraBalancedSampler"
SAMPLERS = (SHUFFLED, IDENTITIES, ACROSS_CAMERAS, CAMERA_PROXIES, EVENLY)
BY_SHARES = (IDENTITIES, ACROSS_CAMERAS, EVENLY)
"""Those that can draw one cluster more often than another."""
"""Values of ``DATALOADER.SAMPLER_TRAIN``: the toolbox's names for the classes of ``nplp.data.samplers``, and
two that the toolbox has not: that of camera proxies, and ``CameraBalancedSampler``."""

CAMERA_NONE, CAMERA_MEAN, CAMERA_STANDARDIZE = CAMERA_TREATMENTS = ("none", "mean", "standardize")
"""Values of ``TEST.CAMERAS``: what ``nplp.modeling.camera_statistics`` does to features in evaluation."""

HEAD_FEATURES = (EMBEDDING, NECK_FEATURE, RECTIFIED_FEATURE)
"""Values of ``MODEL.HEADS.OUTPUT``: what the head returns in evaluation."""

HEAD_FUSIONS = ("hn", "concat")
"""Values of ``MODEL.HEADS.FUSION``: how the pooled feature becomes f_e."""

AVERAGE, GEM = HEAD_POOLINGS = ("average", "gem")
"""Values of ``MODEL.HEADS.POOLING``: how a stripe of the feature map is pooled."""

AMP_TYPES = ("auto", "bfloat16", "float16")
"""Values of ``SOLVER.AMP.DTYPE``: the type of mixed precision, "auto" by the device."""

PKU_REID = "PKUReid"
"""The data set that ``DATASETS.PKU`` has options of."""

OWN_IMAGES = "OwnImages"
"""The data set that ``DATASETS.OWN`` describes."""

TRACKS_UNUSED, TRACKS_CONSTRAIN, TRACKS_AVERAGED = TRACK_USES = ("none", "constrain", "average")
"""Values of ``NPLP.TRACKS``: what the pseudo-label stage makes of the target's tracks."""
