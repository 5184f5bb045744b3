"""Camera proxies: a row of a table for each cluster in each camera that sees it, contrasted across cameras.

Wang et al., "Camera-aware Proxies for Unsupervised Person Re-Identification" (CAP, AAAI 2021, arXiv
2012.10674), and "Offline-Online Associated Camera-Aware Proxies" (O2CAP, TIP 2022); the form without the
image's own camera among the positives is that of PPLR (Cho et al., CVPR 2022, arXiv 2203.14675).

Shapes: N images, M proxies, B images in a batch, D values of a feature f.
"""

import math

import torch
import torch.nn.functional as F

from .batch import check_weights
from .lookup_table import OUTLIER, cluster_centroids
from .table_contrast import UpdatedTable

__all__ = ["CameraProxyLoss"]


class CameraProxyLoss(UpdatedTable):
    """Contrast of L2-normalised features f with the proxies V of (cluster, camera) pairs.

    With s_aj = V_j^T f_a / tau, P_a the proxies of the image's cluster in other cameras and N_a the
    ``negatives`` most similar proxies of other clusters, in any camera (all where there are fewer):

    inter_a = 1/|P_a| sum_{p in P_a} -log( exp(s_ap) / sum_{j in P_a or N_a} exp(s_aj) ),

    and 0 for an image whose cluster is seen by its own camera alone, as in PPLR: there is no other camera to
    be drawn to. With O_a the proxies of the image's own camera and o its own proxy, CAP's loss within a
    camera is

    intra_a = -log( exp(s_ao) / sum_{j in O_a} exp(s_aj) ),

    and L = 1/B sum_a w_a (weight inter_a + intra_weight intra_a), w_a the image's weight, 1 where none are
    given.

    An iteration starts with V_j the L2-normalised mean of the L2-normalised features of the pair's images.
    In the backward pass each image, in batch order and whatever its weight, updates the row of its own pair:
    V_j <- momentum V_j + (1 - momentum) f, then V_j <- V_j / |V_j|; see :class:`UpdatedTable`.

    Where it differs from CAP's code: CAP counts the image's own proxy among the positives across cameras; it
    adds up the means over each camera's images in a batch, which makes the loss grow with their number; it
    begins to contrast cameras in the sixth epoch. The proxy of the own pair is in neither P_a nor N_a.

    Memory: M x D for V, some arrays of B x M in each step.

    Args:
        temperature: tau > 0.
        momentum: share of the OLD row that one image leaves, in [0, 1].
        negatives: size of N_a, at least 1.
        weight: factor of the contrast across cameras, at least 0.
        intra_weight: factor of the loss within a camera, at least 0.

    Raises:
        ValueError: if an argument is out of its range.
    """

    _clusters: torch.Tensor
    _cameras: torch.Tensor

    def __init__(
        self,
        temperature: float = 0.07,
        momentum: float = 0.2,
        negatives: int = 50,
        weight: float = 0.5,
        intra_weight: float = 0.0,
    ) -> None:
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must be in [0, 1], got {momentum}")
        if negatives < 1:
            raise ValueError(f"negatives must be at least 1, got {negatives}")
        for name, value in (("weight", weight), ("intra_weight", intra_weight)):
            if not (value >= 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be a finite number >= 0, got {value}")
        super().__init__(normalize=True, temperature=temperature, update=True, kept=momentum)
        self.negatives = negatives
        self.weight = weight
        self.intra_weight = intra_weight
        for name in ("_clusters", "_cameras"):
            self.register_buffer(name, torch.empty(0, dtype=torch.int64), persistent=False)

    def begin(self, features: torch.Tensor, labels: torch.Tensor, cameras: torch.Tensor) -> None:
        """Start V from the features of all images; proxies are sorted by cluster, then by camera.

        In distributed training every process must pass the same, or take another's :meth:`proxies`.

        Args:
            features: f [N, D], floating point, finite, any device and scale.
            labels: [N] integers, 0..c-1, or -1 for images left out; at least one is not.
            cameras: [N] integers, at least 0: the numbers that batches give as ``camids``.

        Raises:
            ValueError: for shapes that do not fit, negative cameras or no image in a cluster.
        """
        if cameras.shape != labels.shape or bool((cameras < 0).any()):
            raise ValueError(
                f"cameras must be {len(labels)} numbers of at least 0, one for each label, got shape "
                f"{tuple(cameras.shape)}"
            )
        labels, cameras = labels.cpu().long(), cameras.cpu().long()
        inside = labels != OUTLIER
        pairs, numbers = torch.unique(
            torch.stack([labels[inside], cameras[inside]]), dim=1, return_inverse=True
        )
        rows = torch.full_like(labels, OUTLIER)
        rows[inside] = numbers
        self.reset(cluster_centroids(F.normalize(features, dim=1), rows, pairs.shape[1]))
        self._clusters, self._cameras = (row.contiguous() for row in pairs.to(self._table.device))

    def proxies(self) -> dict[str, torch.Tensor]:
        """Return V [M, D] and each row's cluster and camera [M], as copies on the CPU."""
        state = {"table": self._table, "clusters": self._clusters, "cameras": self._cameras}
        return {name: value.detach().cpu().clone() for name, value in state.items()}

    def restore_proxies(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from what :meth:`proxies` returned; V is not normalised again."""
        if state["table"].numel():
            self.restore(state["table"])
            device = self._table.device
            self._clusters, self._cameras = state["clusters"].to(device), state["cameras"].to(device)

    def forward(
        self,
        features: torch.Tensor,
        labels: torch.Tensor,
        camids: torch.Tensor,
        weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the scalar loss.

        Args:
            features: f [B, D], floating point, any scale.
            labels: [B] integer clusters.
            camids: [B] integer cameras, numbered as in :meth:`begin`.
            weights: w [B], floating point, at least 0; all 1 by default.

        Raises:
            ValueError: for an empty V, shapes that do not fit, or a cluster without a proxy in the image's
                camera.
        """
        self._check(features, labels)
        check_weights(weights, len(labels))
        labels, camids = labels.long(), camids.to(labels.device).long()
        rows = self._rows(labels, camids)
        with torch.autocast(features.device.type, enabled=False):
            values = self._values(features)
            loss, gradient = self._loss_and_gradient(values.detach(), rows, weights)
            return self._differentiable(values, loss, gradient, rows)

    def _rows(self, labels: torch.Tensor, camids: torch.Tensor) -> torch.Tensor:
        """Return the number [B] of each image's own proxy; waits for the device.

        Raises:
            ValueError: naming the first image's cluster and camera that have none.
        """
        if camids.shape != labels.shape:
            raise ValueError(f"camids must be {len(labels)} integers, got shape {tuple(camids.shape)}")
        # Pairs are sorted, and so are their numbers; cameras beyond the last have none.
        count = int(torch.maximum(self._cameras.max(), camids.max())) + 1
        known, wanted = self._clusters * count + self._cameras, labels * count + camids
        rows = torch.searchsorted(known, wanted).clamp(max=len(known) - 1)
        missing = torch.nonzero((known[rows] != wanted) | (camids < 0)).flatten().tolist()
        if missing:
            first = missing[0]
            raise ValueError(
                f"no proxy of cluster {int(labels[first])} in camera {int(camids[first])}: labels and camids "
                "must be those that the table began with"
            )
        return rows

    @torch.no_grad()
    def _loss_and_gradient(
        self, values: torch.Tensor, rows: torch.Tensor, weights: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the scalar loss and its gradient [B, D] by ``values``."""
        table = self._table.to(values.dtype)
        logits = values @ table.T / self.temperature
        same_cluster = self._clusters[rows].unsqueeze(1) == self._clusters
        same_camera = self._cameras[rows].unsqueeze(1) == self._cameras
        positive = same_cluster & ~same_camera
        loss, residual = _cross_entropy(logits, positive, positive | self._hardest(logits, same_cluster))
        loss, residual = self.weight * loss, self.weight * residual
        if self.intra_weight:
            within, of_within = _cross_entropy(logits, same_cluster & same_camera, same_camera)
            loss, residual = loss + self.intra_weight * within, residual + self.intra_weight * of_within
        if weights is not None:
            weights = weights.to(values)
            loss, residual = weights * loss, weights.unsqueeze(1) * residual
        return loss.mean(), residual @ table / (self.temperature * len(values))

    def _hardest(self, logits: torch.Tensor, same_cluster: torch.Tensor) -> torch.Tensor:
        """Return which proxies [B, M] are the most similar ones of other clusters."""
        others = logits.masked_fill(same_cluster, -math.inf)
        found = others.topk(min(self.negatives, logits.shape[1]), dim=1).indices
        return torch.zeros_like(same_cluster).scatter_(1, found, True) & ~same_cluster


def _cross_entropy(
    logits: torch.Tensor, positive: torch.Tensor, candidates: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean of -log softmax over each image's positives, and its gradient by the logits.

    Args:
        logits: s [B, M].
        positive: [B, M] of truth values; an image without any has loss and gradient 0.
        candidates: [B, M], what the softmax is over; it includes the positives.

    Returns:
        The loss [B] and the gradient [B, M].
    """
    count = positive.sum(dim=1, keepdim=True)
    log_softmax = F.log_softmax(logits.masked_fill(~candidates, -math.inf), dim=1)
    share = positive.to(logits) / count.clamp(min=1)
    loss = -(share * log_softmax.masked_fill(~positive, 0)).sum(dim=1)
    return loss, torch.where(count > 0, log_softmax.exp() - share, 0)
