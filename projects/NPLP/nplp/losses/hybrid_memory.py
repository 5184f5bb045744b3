"""The hybrid memory of SpCL (Ge et al., NeurIPS 2020, arXiv 2006.02713): a row an image, a class a cluster.

Shapes: N images, C classes (clusters, and un-clustered images as classes of one), B images in a batch, D
values of a feature.
"""

import torch
import torch.nn.functional as F

from .batch import check_weights
from .table_contrast import UpdatedTable

__all__ = ["HybridMemoryLoss"]

SMALL = 1e-6
"""What the authors' code adds to a softmax's denominator and to a probability before its logarithm."""


class HybridMemoryLoss(UpdatedTable):
    """Contrast of L2-normalised features x with the classes of a memory V that has a row for each image.

    A class's centroid c_j is the mean of its images' rows, not normalised again: a cluster's, or an
    un-clustered image's own row. With s_aj = c_j^T x_a / tau and y the class of image a,

    p_a = exp(s_ay) / (sum_j exp(s_aj) + e),    L = -1/B sum_a w_a log(p_a + e),

    e = 1e-6 as in its authors' code (spcl/models/hm.py), which bounds an image's loss by 13.8 and takes the
    gradient of one that the memory holds to be impossible to 0; w_a is the image's weight, 1 where none are
    given. The softmax subtracts the largest logit first: exp(1 / 0.05) is beyond half precision.

    In the backward pass each image, in batch order, updates its own row, V_k <- momentum V_k +
    (1 - momentum) x, V_k <- V_k / |V_k|; see :class:`UpdatedTable`. Rows stay when classes change: they are
    set once, and classes by :meth:`assign` as often as images are clustered.

    Memory: N x D for V, C x D and B x C in each step.

    Args:
        temperature: tau > 0.
        momentum: share of the OLD row that one image leaves, in [0, 1].

    Raises:
        ValueError: if an argument is out of its range.
    """

    _classes: torch.Tensor

    def __init__(self, temperature: float = 0.05, momentum: float = 0.2) -> None:
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must be in [0, 1], got {momentum}")
        super().__init__(normalize=True, temperature=temperature, update=True, kept=momentum)
        self.register_buffer("_classes", torch.empty(0, dtype=torch.int64), persistent=False)
        self._members = self._starts = self._classes

    @property
    def classes(self) -> torch.Tensor:
        """The class [N] of each row; [0] before :meth:`assign`."""
        return self._classes

    def assign(self, classes: torch.Tensor) -> None:
        """Set the class of each row.

        Args:
            classes: [N] integers, 0..C-1, each at least once.

        Raises:
            ValueError: if there is not one for each row of V, or a class has no row.
        """
        if classes.shape != (len(self._table),) or not len(classes):
            raise ValueError(
                f"classes must be one for each of {len(self._table)} rows, got shape {tuple(classes.shape)}"
            )
        classes = classes.cpu().long()
        if int(classes.min()) < 0 or not bool((sizes := torch.bincount(classes)).all()):
            raise ValueError("classes must be 0..C-1, each of at least one row")
        device = self._table.device
        self._classes = classes.to(device)
        self._members = torch.argsort(classes, stable=True).to(device)
        self._starts = (sizes.cumsum(0) - sizes).to(device)

    def forward(
        self,
        features: torch.Tensor,
        labels: torch.Tensor,
        indices: torch.Tensor,
        weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the scalar loss.

        Args:
            features: f [B, D], floating point, any scale.
            labels: [B] integers, the images' classes as :meth:`assign` set them.
            indices: [B] integers, the images' rows.
            weights: w [B], floating point, at least 0; all 1 by default.

        Raises:
            ValueError: for an empty V, shapes that do not fit, a row out of range or not of its class.
        """
        self._check(features, labels)
        check_weights(weights, len(labels))
        if len(self._classes) != len(self._table):
            raise ValueError("the rows have no classes: call assign(classes) before the first batch")
        labels, rows = labels.long(), indices.to(labels.device).long()
        if rows.shape != labels.shape or not bool(((rows >= 0) & (rows < len(self._table))).all()):
            raise ValueError(f"indices must be {len(labels)} rows in [0, {len(self._table)})")
        if not torch.equal(self._classes[rows], labels):
            raise ValueError("labels must be the classes that assign(classes) gave these rows")
        with torch.autocast(features.device.type, enabled=False):
            values = self._values(features)
            loss, gradient = self._loss_and_gradient(values.detach(), labels, weights)
            return self._differentiable(values, loss, gradient, rows)

    @torch.no_grad()
    def _loss_and_gradient(
        self, values: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the scalar loss and its gradient [B, D] by ``values``."""
        # Sums over a class's rows in their order: the same bits on every process.
        centroids = F.embedding_bag(self._members, self._table, self._starts, mode="mean").to(values.dtype)
        logits = values @ centroids.T / self.temperature
        largest = logits.amax(dim=1, keepdim=True)
        shares = (logits - largest).exp()
        shares /= shares.sum(dim=1, keepdim=True) + SMALL * (-largest).exp()
        images = torch.arange(len(labels), device=labels.device)
        own = shares[images, labels]
        losses, residual = -(own + SMALL).log(), shares
        residual[images, labels] -= 1
        factor = own / (own + SMALL)
        if weights is not None:
            losses, factor = weights.to(values) * losses, weights.to(values) * factor
        residual *= factor.unsqueeze(1)
        return losses.mean(), residual @ centroids / (self.temperature * len(labels))
