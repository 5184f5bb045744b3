"""The registered head and meta-architecture: section III-D on the toolbox's backbones."""

from .feature_map import check_feature_map
from .heads import HeadOutput, PAPHead
from .meta_arch import NPLP

__all__ = ["NPLP", "HeadOutput", "PAPHead", "check_feature_map"]
