"""Losses against a table that the backward pass updates, and the softmax over similarities to its rows.

Shapes: B images in the batch, c rows of the table, D values of a feature f.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from .batch import at_least_float32, check_batch, check_label_range, check_weights
from .lookup_table import least_similar_of_each, update_lookup_table_
from .whole_batch import gather_rows

__all__ = ["TableContrast", "UpdatedTable"]


class UpdatedTable(nn.Module):
    """A lookup table V of L2-normalised or plain mean features, and how training moves it.

    V is a constant for the gradient, that of the forward pass. The backward pass then updates it, one sample
    after another in batch order: V_i <- kept V_i + (1 - kept) f, see :func:`update_lookup_table_`,
    L2-normalising each row again if ``normalize``.

    When V moves:

    * once for each forward pass whose loss is differentiated, when its gradient is first computed: a second
      backward pass through a retained graph gives the gradient again and leaves V alone;
    * not without a backward pass (evaluation, ``torch.no_grad``, features that need no gradient);
    * not for samples whose feature is not finite: the loss shows it, V keeps its row.

    In distributed training the features and rows of all processes are gathered in the forward pass, in
    rank order, and every process applies all of them, so that tables that start equal stay equal to the
    bit. Every process must bring the same batch size. The loss stays the mean over the own batch, unless
    each is given the batch of all processes, see :func:`.whole_batch.whole_batch`.

    V is a buffer that no checkpoint holds, as its size changes with the clustering; it is empty until
    :meth:`reset`, and follows the module's device and dtype (float32 at least). Computed in V's and the
    features' wider dtype, float32 at least, whatever the autocast mode. Memory: c x D for V.

    Args:
        normalize: L2-normalise f and V.
        temperature: tau > 0, of the normalised form only; without ``normalize`` tau is 1.
        update: update V in the backward pass.
        kept: the share of the old V_i that one sample leaves, in [0, 1].
        hard: of each row's samples in a batch, all processes' together, only the one that is least similar to
            the row updates it, once; see :func:`least_similar_of_each`.

    Raises:
        ValueError: if ``temperature`` is not a finite number above 0.
    """

    _table: torch.Tensor

    def __init__(
        self, normalize: bool, temperature: float, update: bool, kept: float, hard: bool = False
    ) -> None:
        super().__init__()
        if not (temperature > 0 and math.isfinite(temperature)):
            raise ValueError(f"temperature must be a finite number above 0, got {temperature}")
        self.normalize = normalize
        self.temperature = temperature
        self.update = update
        self.kept = kept
        self.hard = hard
        self.register_buffer("_table", torch.empty(0, 0), persistent=False)

    @property
    def table(self) -> torch.Tensor:
        """V [c, D] itself, not a copy; [0, 0] before :meth:`reset`."""
        return self._table

    def reset(self, centroids: torch.Tensor) -> None:
        """Start a new V from mean features, L2-normalised if ``normalize``.

        In distributed training every process must pass the same centroids.

        Args:
            centroids: [c, D] floating point, c >= 1, finite; copied to the module's device and dtype.

        Raises:
            ValueError: if ``centroids`` has another shape or is not finite.
        """
        self.restore(centroids)
        if self.normalize:
            self._table = F.normalize(self._table, dim=1)

    def restore(self, table: torch.Tensor) -> None:
        """Set V [c, D] as it was saved from :attr:`table`, without normalising it again.

        Raises:
            ValueError: if ``table`` has another shape or is not finite.
        """
        if table.dim() != 2 or table.numel() == 0:
            raise ValueError(f"centroids must be [c, D] with c, D >= 1, got shape {tuple(table.shape)}")
        if not bool(table.isfinite().all()):
            raise ValueError("centroids must be finite, got NaN or infinity: check the features")
        dtype = torch.promote_types(self._table.dtype, torch.float32)
        self._table = table.detach().to(self._table.device, dtype, copy=True)

    def _check(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        """Check a batch against V.

        Raises:
            ValueError: for an empty V or shapes that do not fit.
        """
        check_batch(features, labels)
        if len(self._table) == 0:
            raise ValueError("the lookup table is empty: call reset(centroids) before the first batch")
        if features.shape[1] != self._table.shape[1]:
            raise ValueError(
                f"features must have the lookup table's {self._table.shape[1]} columns, got "
                f"{features.shape[1]}"
            )

    def _values(self, features: torch.Tensor) -> torch.Tensor:
        """Return f [B, D] as it is compared with V: wide enough, L2-normalised if ``normalize``."""
        values = at_least_float32(features)
        values = values.to(torch.promote_types(values.dtype, self._table.dtype))
        return F.normalize(values, dim=1) if self.normalize else values

    def _differentiable(
        self, values: torch.Tensor, loss: torch.Tensor, gradient: torch.Tensor, rows: torch.Tensor
    ) -> torch.Tensor:
        """Return ``loss`` as a function of ``values``, whose backward pass updates V.

        Args:
            values: f [B, D], of :meth:`_values`.
            loss: the scalar.
            gradient: [B, D], that of ``loss`` by ``values``, taken before the update can move V.
            rows: [B] int64, the row of V that each image updates.
        """
        if not (torch.is_grad_enabled() and values.requires_grad):
            return loss
        pending = None
        if self.update:
            pending = _PendingUpdate(
                self._table,
                gather_rows(values.detach()),
                gather_rows(rows),
                self.normalize,
                self.kept,
                self.hard,
            )
        return _LossOfTable.apply(values, loss, gradient, pending)

    def extra_repr(self) -> str:
        """Return the arguments shown in the module's representation."""
        return (
            f"normalize={self.normalize}, temperature={self.temperature}, update={self.update}, "
            f"kept={self.kept}, hard={self.hard}"
        )


class TableContrast(UpdatedTable):
    """Softmax over the similarities of f to the cluster centroids in a lookup table V.

    L = -1/B sum_a w_a log( exp(V_i^T f_a / tau) / sum_j exp(V_j^T f_a / tau) ), i the cluster of image a and
    w_a its weight, 1 where none are given. Each image's share of V's update is the same whatever its weight.
    Memory: c x D for V, B x c for the logits.
    """

    def forward(
        self, features: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the scalar loss.

        Args:
            features: f [B, D], floating point.
            labels: [B] integer clusters in [0, c).
            weights: w [B], floating point, at least 0; all 1 by default.

        Raises:
            ValueError: for an empty V, shapes that do not fit or a label out of range.
        """
        self._check(features, labels)
        check_label_range(labels, len(self._table))
        check_weights(weights, len(labels))
        labels = labels.long()
        with torch.autocast(features.device.type, enabled=False):
            values = self._values(features)
            loss, gradient = self._loss_and_gradient(values.detach(), labels, weights)
            return self._differentiable(values, loss, gradient, labels)

    @torch.no_grad()
    def _loss_and_gradient(
        self, values: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the scalar loss and its gradient [B, D] by ``values``."""
        temperature = self.temperature if self.normalize else 1.0
        centroids = self._table.to(values.dtype)
        log_probabilities = F.log_softmax(values @ centroids.T / temperature, dim=1)
        residual = log_probabilities.exp()
        residual[torch.arange(len(labels), device=labels.device), labels] -= 1
        if weights is None:
            loss = F.nll_loss(log_probabilities, labels)
        else:
            weights = weights.to(values)
            loss = (weights * F.nll_loss(log_probabilities, labels, reduction="none")).mean()
            residual *= weights.unsqueeze(1)
        return loss, residual @ centroids / (temperature * len(labels))


class _PendingUpdate:
    """The update of V for one batch, from its forward pass to its backward pass, applied at most once."""

    def __init__(
        self,
        table: torch.Tensor,
        features: torch.Tensor,
        labels: torch.Tensor,
        normalize: bool,
        kept: float,
        hard: bool,
    ) -> None:
        self._arguments: tuple[torch.Tensor, torch.Tensor, torch.Tensor, bool, float] | None
        self._arguments = (table, features, labels, normalize, kept)
        self._hard = hard

    def apply(self) -> None:
        arguments, self._arguments = self._arguments, None
        if arguments is None:
            return
        table, features, labels, normalize, kept = arguments
        if self._hard:
            chosen = least_similar_of_each(table, features, labels).to(labels.device)
            features, labels = features[chosen], labels[chosen]
        update_lookup_table_(table, features, labels, normalize, kept)


class _LossOfTable(torch.autograd.Function):
    """A loss whose gradient was taken in the forward pass, before the update can move V."""

    @staticmethod
    def forward(
        ctx: Any,
        values: torch.Tensor,
        loss: torch.Tensor,
        gradient: torch.Tensor,
        pending: _PendingUpdate | None,
    ) -> torch.Tensor:
        del values
        ctx.save_for_backward(gradient)
        ctx.pending = pending
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        if ctx.pending is not None:
            ctx.pending.apply()
        return grad_output * gradient, None, None, None
