"""Camera proxies: a row of a table for each cluster in each camera that sees it, contrasted across cameras.

Wang et al., "Camera-aware Proxies for Unsupervised Person Re-Identification" (CAP, AAAI 2021, arXiv
2012.10674), and "Offline-Online Associated Camera-aware Proxies" (O2CAP, TIP 2022, arXiv 2201.05820); the
form without the image's own camera among the positives is that of PPLR (Cho et al., CVPR 2022, arXiv
2203.14675).

Shapes: N images, M proxies, B images in a batch, D values of a feature f.
"""

import math

import torch
import torch.nn.functional as F

from .batch import check_weights
from .lookup_table import OUTLIER, cluster_centroids
from .proxy_association import cross_entropy, hardest, nearest_of_cameras
from .table_contrast import UpdatedTable
from .whole_batch import gather_rows

__all__ = ["CameraProxyLoss"]

POSITIVES = ("others", "all")
REDUCTIONS = ("mean", "cameras")


class CameraProxyLoss(UpdatedTable):
    """Contrast of L2-normalised features f with the proxies V of (cluster, camera) pairs.

    With s_aj = V_j^T f_a / tau, P_a the proxies of the image's cluster in other cameras and N_a the
    ``negatives`` most similar proxies of other clusters, in any camera (all where there are fewer):

    inter_a = 1/|P_a| sum_{p in P_a} -log( exp(s_ap) / sum_{j in P_a or N_a} exp(s_aj) ),

    and 0 for an image whose cluster is seen by its own camera alone, as in PPLR: there is no other camera to
    be drawn to. With ``positives`` "all" the image's own proxy o is in P_a too, as in CAP and in the offline
    association of O2CAP. With O_a the proxies of the image's own camera, CAP's loss within a camera is

    intra_a = -log( exp(s_ao) / sum_{j in O_a} exp(s_aj) ).

    O2CAP's online association believes no cluster. With u_aj = b V_j^T f_a + (1 - b) V_o^T V_j, b the
    ``balance``, Q_a are the ``online_positives`` greatest of each camera's proxy of greatest u, and R_a the
    ``negatives`` others of greatest u: online_a is inter_a of Q_a and R_a in place of P_a and N_a.

    L = sum_a r_a w_a (weight inter_a + intra_weight intra_a + online_weight online_a), w_a the image's
    weight, 1 where none are given; r_a = 1/B, or with ``reduction`` "cameras" 1 / the batch's images of the
    image's camera: CAP and O2CAP add up the means over each camera's images. With C cameras in a batch it is
    about C times as large, and an image of a rare camera counts more. In distributed training the batch is
    that of all processes.

    An iteration starts with V_j the L2-normalised mean of the L2-normalised features of the pair's images.
    In the backward pass each image, in batch order and whatever its weight, updates the row of its own pair:
    V_j <- momentum V_j + (1 - momentum) f, then V_j <- V_j / |V_j|; see :class:`UpdatedTable`.

    With :attr:`across` False inter_a and online_a are left out: CAP begins to contrast cameras in the sixth
    epoch, which is the method's to say.

    Where it differs from CAP's code: where there are fewer than ``negatives`` proxies of other clusters, that
    takes the positives for negatives too, and so twice into the sum.

    Memory: M x D for V, some arrays of B x M in each step.

    Attributes:
        across: contrast across cameras too.

    Args:
        temperature: tau > 0.
        momentum: share of the OLD row that one image leaves, in [0, 1].
        negatives: size of N_a and R_a, at least 1.
        weight: factor of the contrast across cameras, at least 0.
        intra_weight: factor of the loss within a camera, at least 0.
        positives: "others", or "all" with the own proxy.
        reduction: "mean", or "cameras" for the sum of each camera's mean.
        online_weight: factor of the online association, at least 0.
        online_positives: size of Q_a, at least 1; fewer cameras give one each.
        balance: b in [0, 1].

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
        positives: str = "others",
        reduction: str = "mean",
        online_weight: float = 0.0,
        online_positives: int = 3,
        balance: float = 0.15,
    ) -> None:
        for name, share in (("momentum", momentum), ("balance", balance)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {share}")
        for name, count in (("negatives", negatives), ("online_positives", online_positives)):
            if count < 1:
                raise ValueError(f"{name} must be at least 1, got {count}")
        weights = {"weight": weight, "intra_weight": intra_weight, "online_weight": online_weight}
        for name, value in weights.items():
            if not (value >= 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be a finite number >= 0, got {value}")
        for name, choice, choices in (
            ("positives", positives, POSITIVES),
            ("reduction", reduction, REDUCTIONS),
        ):
            if choice not in choices:
                raise ValueError(f"{name} must be one of {choices}, got {choice!r}")
        super().__init__(normalize=True, temperature=temperature, update=True, kept=momentum)
        self.negatives = negatives
        self.weight = weight
        self.intra_weight = intra_weight
        self.positives = positives
        self.reduction = reduction
        self.online_weight = online_weight
        self.online_positives = online_positives
        self.balance = balance
        self.across = True
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
            shares = self._shares(camids, values) if self.reduction == "cameras" else None
            loss, gradient = self._loss_and_gradient(values.detach(), rows, shares, weights)
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

    def _shares(self, camids: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Return each image's share [B] of the sum of the cameras' means.

        The gradients of several processes are averaged, so that each has as many times the share.
        """
        together = camids
        if torch.is_grad_enabled() and values.requires_grad:
            together = gather_rows(camids)
        count = (camids.unsqueeze(1) == together).sum(dim=1)
        return (len(together) / len(camids)) / count.to(values)

    @torch.no_grad()
    def _loss_and_gradient(
        self,
        values: torch.Tensor,
        rows: torch.Tensor,
        shares: torch.Tensor | None,
        weights: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the scalar loss and its gradient [B, D] by ``values``.

        Without ``shares`` each image's is 1/B.
        """
        table = self._table.to(values.dtype)
        loss, residual = self._by_image(values, rows, table)
        if weights is not None:
            weights = weights.to(values)
            loss, residual = weights * loss, weights.unsqueeze(1) * residual
        if shares is None:
            return loss.mean(), residual @ table / (self.temperature * len(values))
        residual = shares.unsqueeze(1) * residual
        return (shares * loss).sum(), residual @ table / self.temperature

    def _by_image(
        self, values: torch.Tensor, rows: torch.Tensor, table: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return each image's loss [B] and its gradient by the logits [B, M]."""
        cosines = values @ table.T
        logits = cosines / self.temperature
        same_cluster = self._clusters[rows].unsqueeze(1) == self._clusters
        same_camera = self._cameras[rows].unsqueeze(1) == self._cameras
        parts = []
        if self.across:
            positive = same_cluster if self.positives == "all" else same_cluster & ~same_camera
            candidates = positive | hardest(logits, same_cluster, self.negatives)
            parts.append((self.weight, *cross_entropy(logits, positive, candidates)))
        if self.intra_weight:
            own = same_cluster & same_camera
            parts.append((self.intra_weight, *cross_entropy(logits, own, same_camera)))
        if self.across and self.online_weight:
            likeness = self.balance * cosines + (1 - self.balance) * (table[rows] @ table.T)
            positive = nearest_of_cameras(likeness, self._cameras, self.online_positives)
            candidates = positive | hardest(likeness, positive, self.negatives)
            parts.append((self.online_weight, *cross_entropy(logits, positive, candidates)))
        if not parts:
            return logits.new_zeros(len(logits)), torch.zeros_like(logits)
        loss, residual = parts[0][0] * parts[0][1], parts[0][0] * parts[0][2]
        for weight, of_part, residual_of_part in parts[1:]:
            loss, residual = loss + weight * of_part, residual + weight * residual_of_part
        return loss, residual
