"""The meta-architecture: images -> backbone -> head -> losses of eqs. 3 and 12, or f_e in evaluation.

Shapes: B images in the batch, D values of f_e.
"""

from collections.abc import Sequence
from typing import Any

import torch
from fastreid.config import CfgNode, configurable
from fastreid.modeling.backbones import build_backbone
from fastreid.modeling.heads import build_heads
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY
from fastreid.utils.events import get_event_storage
from torch import nn

from nplp.errors import UserError
from nplp.losses import BatchHardTripletLoss, CenterContrastiveLoss, softmax_loss

from .feature_map import check_feature_map
from .heads import CENTER_CONTRASTIVE, CROSS_ENTROPY, TRIPLET, HeadOutput, PAPHead

__all__ = ["NPLP"]

LOSSES = (CROSS_ENTROPY, TRIPLET, CENTER_CONTRASTIVE)


@META_ARCH_REGISTRY.register()
class NPLP(nn.Module):
    """The model M of the paper, for supervised pre-training (eq. 3) and adaptation (eq. 12).

    In training it returns the losses asked for, unweighted: ``loss_cls`` (eq. 2), ``loss_triplet`` (eq. 1,
    of f_e) and ``loss_cc`` (eq. 10, of f_r); in evaluation f_e [B, D].

    Attributes:
        center_contrastive: the loss that holds the lookup table, or ``None``; call its ``reset`` with the
            clusters' centroids before training.

    Args:
        backbone: images [B, 3, H, W] to a feature map [B, C, H', W'].
        heads: the head; its name gives its parameters the rate factor SOLVER.HEADS_LR_FACTOR.
        loss_names: any of "CrossEntropyLoss", "TripletLoss", "CenterContrastiveLoss"; none makes a model
            for inference alone.
        pixel_mean: of the three channels, in the scale 0..255.
        pixel_std: of the three channels, in the same scale.
        triplet: eq. 1; by default margin 0.3 and the mean.
        center_contrastive: eq. 10; by default normalised, temperature 0.1 and updated.

    Raises:
        UserError: for unknown loss names.
    """

    pixel_mean: torch.Tensor
    pixel_std: torch.Tensor

    @configurable
    def __init__(
        self,
        *,
        backbone: nn.Module,
        heads: PAPHead,
        loss_names: Sequence[str],
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        triplet: BatchHardTripletLoss | None = None,
        center_contrastive: CenterContrastiveLoss | None = None,
    ) -> None:
        super().__init__()
        if loss_names:
            check_losses(loss_names)
        self.backbone = backbone
        self.heads = heads
        self.loss_names = tuple(loss_names)
        self.triplet = (triplet or BatchHardTripletLoss()) if TRIPLET in loss_names else None
        self.center_contrastive = (
            (center_contrastive or CenterContrastiveLoss()) if CENTER_CONTRASTIVE in loss_names else None
        )
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            channels = torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)
            self.register_buffer(name, channels, persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Return the constructor's arguments from a configuration, after a dry run of the backbone.

        Raises:
            UserError: if backbone and head do not fit, see :func:`check_feature_map`, or a loss's option is
                out of its range.
        """
        backbone = build_backbone(cfg)
        check_feature_map(cfg, backbone)
        losses = cfg.MODEL.LOSSES
        return {
            "backbone": backbone,
            "heads": build_heads(cfg),
            "loss_names": losses.NAME,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            **_build_losses(losses),
        }

    @property
    def device(self) -> torch.device:
        """Where the model is; batches are moved there."""
        return self.pixel_mean.device

    def preprocess_image(self, images: torch.Tensor) -> torch.Tensor:
        """Return ``images`` [B, 3, H, W], 0..255, on the model's device and normalised, as a new tensor."""
        images = images.to(self.device, non_blocking=True)
        return (images - self.pixel_mean) / self.pixel_std

    def forward(
        self, batched_inputs: dict[str, Any] | torch.Tensor
    ) -> dict[str, torch.Tensor] | torch.Tensor:
        """Return the losses in training, f_e [B, D] in evaluation.

        Args:
            batched_inputs: the images [B, 3, H, W], 0..255, or a dictionary with them as "images" and, for
                training, integer "targets" [B].

        Raises:
            ValueError: in training, without targets or with a negative one; the losses raise it too.
            UserError: in training, if there is no loss, or the cross-entropy and MODEL.HEADS.NUM_CLASSES 0.
        """
        if not self.training:
            images = batched_inputs["images"] if isinstance(batched_inputs, dict) else batched_inputs
            return self.heads(self.backbone(self.preprocess_image(images)))
        check_losses(self.loss_names)
        if not isinstance(batched_inputs, dict) or "targets" not in batched_inputs:
            raise ValueError("training needs a batch with 'images' and 'targets', got no targets")
        targets = self._checked_targets(batched_inputs["targets"])
        output = self.heads(self.backbone(self.preprocess_image(batched_inputs["images"])))
        return self.losses(output, targets)

    def _checked_targets(self, targets: torch.Tensor) -> torch.Tensor:
        if bool((targets < 0).any()):
            raise ValueError(
                f"targets must be >= 0, got {int(targets.min())}: outliers of the clustering (label -1) must "
                "not reach training"
            )
        return targets.to(self.device, non_blocking=True)

    def losses(self, output: HeadOutput, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the scalar losses of the head's ``output`` for ``targets`` [B], by name.

        Raises:
            ValueError: for a target out of range or an empty lookup table.
            UserError: for the cross-entropy without a classifier.
        """
        losses = {}
        if CROSS_ENTROPY in self.loss_names:
            if output.logits is None:
                raise UserError(
                    f"MODEL.HEADS.NUM_CLASSES must be above 0 to train with {CROSS_ENTROPY}: set it to the "
                    "number of identities, got 0"
                )
            losses["loss_cls"] = softmax_loss(output.logits, targets)
            _log_accuracy(output.logits.detach(), targets)
        if self.triplet is not None:
            losses["loss_triplet"] = self.triplet(output.f_e, targets)
        if self.center_contrastive is not None:
            losses["loss_cc"] = self.center_contrastive(output.f_r, targets)
        return losses


def check_losses(names: Sequence[str]) -> None:
    """Check the names of losses.

    Raises:
        UserError: if there is none, or one that is not known.
    """
    if not names or set(names) - set(LOSSES):
        raise UserError(f"MODEL.LOSSES.NAME must name one or more of {LOSSES}, got {tuple(names)}")


def _build_losses(losses: CfgNode) -> dict[str, nn.Module]:
    """Return eqs. 1 and 10 as ``losses``, the section MODEL.LOSSES, sets them."""
    try:
        return {
            "triplet": BatchHardTripletLoss(losses.TRI.MARGIN, losses.TRI.REDUCTION),
            "center_contrastive": CenterContrastiveLoss(
                normalize=losses.CC.NORMALIZE, temperature=losses.CC.TEMPERATURE, update=losses.CC.UPDATE
            ),
        }
    except ValueError as error:
        raise UserError(f"MODEL.LOSSES (TRI and CC): {error}") from error


def _log_accuracy(logits: torch.Tensor, targets: torch.Tensor) -> None:
    """Add the share of correctly classified images to the toolbox's log, where one is open."""
    try:
        storage = get_event_storage()
    except AssertionError:  # how the toolbox says that none is
        return
    storage.put_scalar("cls_accuracy", (logits.argmax(dim=1) == targets).float().mean().item())
