"""Offline-online associated camera-aware proxies, O2CAP (Wang et al., TIP 2022, arXiv 2201.05820).

With one epoch an iteration it is: Jaccard DBSCAN at a fixed epsilon on L2-normalised BN-neck features of the
whole target set, outliers left out; a proxy of each (cluster, camera), the L2-normalised mean of its images;
the contrast of all proxies of an image's cluster (offline) and that of the best three of each camera's
nearest proxy (online), each with 50 negatives and from the first epoch on. The losses are those of
:class:`nplp.losses.CameraProxyLoss`, and ``configs/methods/overlays/o2cap.yml`` sets them and the sampler.

The authors' training script leaves the loss within a camera out, though their memory has it;
``MODEL.LOSSES.PROXY.INTRA_WEIGHT`` 1.0 adds it.

Where it differs from their code: with fewer than three cameras fewer proxies are positive online, see
:func:`nplp.losses.proxy_association.nearest_of_cameras`; the rate rises by the step in the first epochs,
theirs by the epoch. As in theirs in effect, k1 counts the image itself.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from nplp.methods.cap import ProxyMethod
from nplp.methods.fixed_radius import CLUSTERER, radius_options
from nplp.methods.registry import register_method

__all__ = ["AssociatedProxies"]


@register_method("o2cap", options={**CLUSTERER, **radius_options(epsilon=0.5, k1=20)})
class AssociatedProxies(ProxyMethod):
    """O2CAP: offline and online association; see :class:`~nplp.methods.cap.ProxyMethod`."""

    authors: ClassVar[Mapping[str, Any]] = {
        "WEIGHT": 1.0,
        "INTRA_WEIGHT": 0.0,
        "POSITIVES": "all",
        "REDUCTION": "cameras",
        "ONLINE_WEIGHT": 1.0,
        "ONLINE_POSITIVES": 3,
        "BALANCE": 0.15,
    }
