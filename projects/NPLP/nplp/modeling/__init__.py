"""The registered head and meta-architecture: section III-D on the toolbox's backbones."""

from nplp.host import require_fastreid

require_fastreid()

from .feature_map import check_feature_map  # noqa: E402
from .heads import HeadOutput, PAPHead  # noqa: E402
from .joint_features import JointFeatures  # noqa: E402
from .meta_arch import NPLP  # noqa: E402
from .narrow_resnet import NarrowResNet18  # noqa: E402
from .timm_backbone import TimmBackbone  # noqa: E402

__all__ = [
    "NPLP",
    "HeadOutput",
    "JointFeatures",
    "NarrowResNet18",
    "PAPHead",
    "TimmBackbone",
    "check_feature_map",
]
