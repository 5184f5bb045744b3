"""The meta-architecture: images -> backbone -> head -> losses, or the head's feature in evaluation.

Shapes: B images in the batch, D values of a feature.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from fastreid.config import CfgNode, configurable
from fastreid.modeling.backbones import build_backbone
from fastreid.modeling.heads import build_heads
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY
from fastreid.utils.events import get_event_storage
from torch import nn

from nplp.config.choices import CAMERA_NONE
from nplp.errors import UserError
from nplp.losses import LOSSES, check_losses, gather_for_losses, whole_batch

from .camera_statistics import CameraStatistics
from .cameras import Cameras
from .feature_map import check_feature_map
from .heads import HeadOutput, PAPHead
from .norms import CameraNorms, divide_batches, order_by_camera
from .parts import changed_output, in_parts

__all__ = ["NPLP"]

OF_IMAGES = ("targets", "camids", "indices", "weights")
"""What a batch tells of each image, besides the image."""


@META_ARCH_REGISTRY.register()
class NPLP(nn.Module):
    """The model M of the paper, for supervised pre-training (eq. 3) and adaptation (eq. 12).

    In training it returns the losses of MODEL.LOSSES.NAME, unweighted, by their names in the log, such as
    ``loss_triplet`` (eq. 1, of f_e), or what :attr:`objective` makes of the head's output; in evaluation the
    head's feature [B, D], corrected by its camera's statistics where the model has some.

    Attributes:
        cameras: the rows of the cameras that the model knows; ``None`` where nothing is kept of cameras.
        camera_statistics: corrects features; ``None`` where ``camera_treatment`` is "none".
        camera_norms: the backbone's batch norms by camera; ``None`` without ``norm_cameras``.
        criteria: the losses by their names in MODEL.LOSSES.NAME.
        objective: takes the head's output and the batch and returns scalars by name, in place of
            :meth:`losses`: a method's.

    Args:
        backbone: images [B, 3, H, W] to a feature map [B, C, H', W'].
        heads: the head; its name gives its parameters the rate factor SOLVER.HEADS_LR_FACTOR.
        loss_names: any of ``nplp.losses.LOSSES``; none makes a model for inference alone.
        pixel_mean: of the three channels, in the scale 0..255.
        pixel_std: of the three channels, in the same scale.
        criteria: losses by name; those left out are built with their defaults.
        norm_chunk: images over which batch norms normalise in training; 0 is the batch.
        norm_cameras: whether the backbone's batch norms have statistics of each camera, not with chunks.
        whole_batches: whether each process takes the losses of the batch of all processes; else of its share.
        parts: in how many parts a batch goes through the network in training, see :func:`.parts.in_parts`.
        camera_treatment: TEST.CAMERAS.
        channels_last: whether the backbone's feature maps lie in memory with channels last.

    Raises:
        UserError: for unknown loss names, or an unknown treatment.
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
        criteria: Mapping[str, nn.Module] | None = None,
        norm_chunk: int = 0,
        norm_cameras: bool = False,
        whole_batches: bool = False,
        parts: int = 1,
        camera_treatment: str = CAMERA_NONE,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        if loss_names:
            check_losses(loss_names)
        self.backbone = backbone
        self.heads = heads
        self.loss_names = tuple(loss_names)
        # In the registry's order, whatever the order of the names: sums of losses keep their bits.
        self.criteria = nn.ModuleDict(
            {
                name: (criteria or {}).get(name) or loss.build()
                for name, loss in LOSSES.items()
                if name in loss_names
            }
        )
        self._whole_batches = whole_batches
        self._parts = parts
        self.norm_groups = divide_batches(self, norm_chunk)
        self.camera_norms = CameraNorms(backbone, self.norm_groups) if norm_cameras else None
        self._layout = torch.channels_last if channels_last else torch.preserve_format
        self.cameras: Cameras | None = None
        self.camera_statistics: CameraStatistics | None = None
        self._raw = False
        if camera_treatment != CAMERA_NONE or norm_cameras:
            self.cameras = Cameras()
            self.register_load_state_dict_post_hook(NPLP._check_cameras)
        if camera_treatment != CAMERA_NONE:
            self.camera_statistics = CameraStatistics(camera_treatment)
        self.objective: Callable[[HeadOutput, dict[str, Any]], dict[str, torch.Tensor]] | None = None
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
            "criteria": {name: LOSSES[name].build(losses) for name in losses.NAME if name in LOSSES},
            "norm_chunk": cfg.MODEL.NORM_CHUNK,
            "norm_cameras": cfg.MODEL.NORM_CAMERAS,
            "whole_batches": cfg.NPLP.SAME_AT_ANY_WORLD_SIZE,
            "parts": cfg.SOLVER.ACCUMULATE,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "camera_treatment": cfg.TEST.CAMERAS,
            "channels_last": cfg.MODEL.CHANNELS_LAST,
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
        """Return the losses in training, the feature [B, D] in evaluation.

        Args:
            batched_inputs: the images [B, 3, H, W], 0..255, or a dictionary with them as "images" and, for
                training, integer "targets" [B], and "camids" [B] with camera norms; in evaluation, where
                known, the "cameras" as :meth:`Cameras.rows` takes them.

        Raises:
            ValueError: in training, without targets, or camids where they are needed, or with a negative
                target; the losses raise it too.
            UserError: in training, if there is no loss, or the cross-entropy and MODEL.HEADS.NUM_CLASSES 0.
        """
        if not self.training:
            batch = batched_inputs if isinstance(batched_inputs, dict) else {"images": batched_inputs}
            feature = self.heads(self._feature_map(batch))
            if self.cameras is None or self.camera_statistics is None or self._raw:
                return feature
            # Not its len(), which an exporter takes for a constant.
            rows = self.cameras.rows(batch.get("cameras"), feature.shape[0])
            return self.camera_statistics(feature, rows)
        check_losses(self.loss_names)
        if not isinstance(batched_inputs, dict) or "targets" not in batched_inputs:
            raise ValueError("training needs a batch with 'images' and 'targets', got no targets")
        targets = self._checked_targets(batched_inputs["targets"])
        output = self.output(batched_inputs)
        batch = {**batched_inputs, "targets": targets}
        objective = self.objective or self.losses
        if not self._whole_batches:
            return objective(output, batch)
        with whole_batch():
            told = {key: gather_for_losses(batch[key].to(self.device)) for key in OF_IMAGES if key in batch}
            return objective(output, {**batch, **told})

    def output(self, batch: dict[str, Any]) -> HeadOutput:
        """Return what the head gives in training for the "images" of a batch, without a loss.

        With ``whole_batches`` it is that of all processes' batches, in the order of their numbers.

        Raises:
            ValueError: with MODEL.NORM_CAMERAS, for a batch without "camids".
        """
        names = ("images",) if self.camera_norms is None else ("images", "camids")
        shown = {name: batch[name] for name in names if name in batch}
        output = in_parts(self, lambda part: self.heads(self._feature_map(part)), shown, self._parts)
        return changed_output(gather_for_losses, output) if self._whole_batches else output

    def _feature_map(self, batch: dict[str, Any]) -> torch.Tensor:
        """Return the backbone's output for "images", each normalised by its camera where that is wanted."""
        images = self.preprocess_image(batch["images"])
        if self.camera_norms is None or self.cameras is None:
            return self._map_of(images)
        if not self.training:
            with self.camera_norms.of_rows(self.cameras.rows(batch.get("cameras"), images.shape[0])):
                return self._map_of(images)
        if "camids" not in batch:
            raise ValueError("training with MODEL.NORM_CAMERAS needs a batch with 'camids', got none")
        order, sizes = order_by_camera(batch["camids"].to(self.device))
        with self.camera_norms.of_sizes(sizes):
            return self._map_of(images[order])[order.argsort()]

    def _map_of(self, images: torch.Tensor) -> torch.Tensor:
        """Return the backbone's output for normalised images, laid out in memory as the model wants them."""
        return self.backbone(images.to(memory_format=self._layout))

    @property
    def corrects(self) -> bool:
        """Whether features are corrected by measured statistics of cameras."""
        return self.camera_statistics is not None and self.camera_statistics.measured

    @property
    def known_cameras(self) -> tuple[str, ...] | None:
        """The cameras whose statistics change features, row by row; ``None`` where there are none."""
        of_norms = self.camera_norms is not None and self.camera_norms.measured
        return self.cameras.known if self.cameras is not None and (self.corrects or of_norms) else None

    @contextmanager
    def raw_features(self) -> Iterator[None]:
        """Let the model give the head's feature itself within the block, as pseudo-labels are made of it."""
        before, self._raw = self._raw, True
        try:
            yield
        finally:
            self._raw = before

    def _check_cameras(self, keys: Any) -> None:
        """Look at what was loaded of cameras.

        Raises:
            UserError: if names and statistics do not fit each other or the head.
        """
        del keys
        assert self.cameras is not None
        if self.camera_statistics is not None:
            self.camera_statistics.check(self.cameras.other, self.heads.embedding_dim)
        if self.camera_norms is not None:
            self.camera_norms.check(self.cameras.other)

    def _checked_targets(self, targets: torch.Tensor) -> torch.Tensor:
        if bool((targets < 0).any()):
            raise ValueError(
                f"targets must be >= 0, got {int(targets.min())}: outliers of the clustering (label -1) must "
                "not reach training"
            )
        return targets.to(self.device, non_blocking=True)

    def losses(self, output: HeadOutput, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Return the scalar losses of MODEL.LOSSES.NAME for the batch's "targets" [B], by name in the log.

        Of the batch, a loss takes besides what its entry in the registry names, such as "camids" [B].

        Raises:
            ValueError: for a target out of range or an empty lookup table.
            UserError: for a loss of logits without a classifier.
        """
        targets = batch["targets"]
        losses = {}
        for name, criterion in self.criteria.items():
            read = getattr(output, LOSSES[name].reads)
            if read is None:
                raise UserError(
                    f"MODEL.HEADS.NUM_CLASSES must be above 0 to train with {name}: set it to the number of "
                    "identities, got 0"
                )
            losses[LOSSES[name].log_name] = criterion(read, targets, **LOSSES[name].taken(batch))
        if output.logits is not None:
            _log_accuracy(output.logits.detach(), targets)
        return losses


def _log_accuracy(logits: torch.Tensor, targets: torch.Tensor) -> None:
    """Add the share of correctly classified images to the toolbox's log, where one is open."""
    try:
        storage = get_event_storage()
    except AssertionError:  # how the toolbox says that none is
        return
    storage.put_scalar("cls_accuracy", (logits.argmax(dim=1) == targets).float().mean().item())
