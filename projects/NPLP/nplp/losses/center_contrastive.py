"""The center-contrastive loss, eqs. 10 and 11."""

from .table_contrast import TableContrast

__all__ = ["CenterContrastiveLoss"]

KEPT = 0.5
"""Eq. 11 is V_i <- (V_i + f_r) / 2."""


class CenterContrastiveLoss(TableContrast):
    """Softmax over the similarities of f_r to the cluster centroids V (eq. 10), with eq. 11 as the update.

    By default f_r and V are L2-normalised and the similarities divided by ``temperature``. With
    ``normalize=False`` it is the literal V^T f_r, whose logits grow without bound in training.

    Args:
        normalize: L2-normalise f_r and V.
        temperature: tau > 0, of the normalised form only.
        update: apply eq. 11 in the backward pass.

    Raises:
        ValueError: if ``temperature`` is not a finite number above 0.
    """

    def __init__(self, normalize: bool = True, temperature: float = 0.1, update: bool = True) -> None:
        super().__init__(normalize, temperature, update, KEPT)
