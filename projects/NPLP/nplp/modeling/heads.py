"""The head: feature map -> pyramidal pooling -> hyper-network -> f_e -> BN, f_bn -> ReLU, f_r -> classifier.

By its options it is the head of other models too, whose embedding is kept: pooling of the whole map (PAP 1),
by the average or a generalised mean, with or without a fully connected layer, and f_e, f_bn or f_r.

Shapes: B images in the batch, C x H x W feature map, D values of f_e, f_bn and f_r, P_s identities.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from fastreid.config import CfgNode, configurable
from fastreid.modeling.heads import REID_HEADS_REGISTRY
from torch import nn

from nplp.config.choices import (
    EMBEDDING,
    GEM,
    HEAD_FEATURES,
    HEAD_FUSIONS,
    HEAD_POOLINGS,
    NECK_FEATURE,
    RECTIFIED_FEATURE,
)
from nplp.errors import UserError
from nplp.layers import GeneralisedMeanPooling, HyperNetwork, PyramidalAveragePooling, pool_stripes
from nplp.losses import LOSSES, check_losses

__all__ = ["HeadOutput", "PAPHead"]


@dataclass(frozen=True)
class HeadOutput:
    """What the head gives in training; what no loss reads is ``None``.

    Attributes:
        f_e: embedding [B, D].
        f_bn: BN(f_e) [B, D].
        f_r: ReLU(BN(f_e)) [B, D].
        logits: W^T f_r [B, P_s], in the classifier's precision; ``None`` without a classifier too.
        stripes: means of uniform horizontal stripes of the feature map [B, S, C], for a method that asks for
            them.
    """

    f_e: torch.Tensor
    f_bn: torch.Tensor | None
    f_r: torch.Tensor | None
    logits: torch.Tensor | None
    stripes: torch.Tensor | None = None


@REID_HEADS_REGISTRY.register()
class PAPHead(nn.Module):
    """Pyramidal average pooling, hyper-network, neck and source classifier (sections III-B and III-D).

    In evaluation it returns f_e, or f_bn = BN(f_e) or f_r = ReLU(f_bn) by ``output``; in training a
    :class:`HeadOutput`. Of the toolbox's options for heads it follows NUM_CLASSES and EMBEDDING_DIM; pooling,
    neck and classifier are the paper's unless other ones are asked for.

    The neck is there wherever there is a loss, as a method's table starts from its features, and frozen
    where no loss reads them: each parameter that requires a gradient gets one in every training step, as
    distributed training without a search for unused parameters needs. Without losses and with ``output``
    "f_e" the head ends at f_e.

    Attributes:
        stripes: S, how many stripes a method asks for; 0 for none. They change nothing of the head itself.

    Args:
        feat_dim: C of the backbone's feature map.
        granularities: I of PAP-I.
        pooling: how a stripe is pooled: "average", as in the paper, or "gem", the generalised mean.
        fusion: "hn", or "concat" for f_e = f_c (DC in Table II).
        embedding_dim: size of f_e with "hn"; "concat" gives C I(I+1)/2.
        num_classes: P_s; the classifier exists where it is above 0 and a loss reads the logits.
        loss_names: of MODEL.LOSSES.NAME, which say what is read of the output; none: inference alone.
        output: "f_e", "f_bn" or "f_r", what is returned in evaluation.
        neck_bias: train the bias of BN; False keeps it at 0.

    Raises:
        UserError: for an unknown pooling, fusion, output or loss, no granularity, or no size of "hn".
    """

    @configurable
    def __init__(
        self,
        *,
        feat_dim: int,
        granularities: int = 2,
        pooling: str = "average",
        fusion: str = "hn",
        embedding_dim: int = 1024,
        num_classes: int = 0,
        loss_names: Sequence[str] = (),
        output: str = EMBEDDING,
        neck_bias: bool = True,
    ) -> None:
        super().__init__()
        if loss_names:
            check_losses(loss_names)
        for key, value, values in (
            ("OUTPUT", output, HEAD_FEATURES),
            ("FUSION", fusion, HEAD_FUSIONS),
            ("POOLING", pooling, HEAD_POOLINGS),
        ):
            if value not in values:
                raise UserError(f"MODEL.HEADS.{key} must be one of {values}, got {value!r}")
        if granularities < 1:
            raise UserError(f"MODEL.HEADS.PAP must be at least 1, got {granularities}")
        if fusion == "hn" and embedding_dim < 1:
            raise UserError(
                "MODEL.HEADS.EMBEDDING_DIM, the size of the hyper-network's output, must be at least 1, "
                f"got {embedding_dim}"
            )
        self.pooling = (GeneralisedMeanPooling if pooling == GEM else PyramidalAveragePooling)(granularities)
        pooled_dim = feat_dim * self.pooling.stripes
        self.embedding_dim = embedding_dim if fusion == "hn" else pooled_dim
        self.hyper_network = HyperNetwork(pooled_dim, embedding_dim) if fusion == "hn" else nn.Identity()

        self.output = output
        self.stripes = 0
        self._gives_stripes = False
        self.read = {LOSSES[name].reads for name in loss_names}
        self.neck: nn.Sequential | None = None
        if loss_names or output != EMBEDDING:
            self.neck = nn.Sequential(nn.BatchNorm1d(self.embedding_dim), nn.ReLU())
        self.classifier: nn.Linear | None = None
        if num_classes > 0 and "logits" in self.read:
            self.classifier = nn.Linear(self.embedding_dim, num_classes, bias=False)
            nn.init.normal_(self.classifier.weight, std=0.001)
        self.needs_f_r = self.classifier is not None or "f_r" in self.read
        self.needs_f_bn = self.needs_f_r or NECK_FEATURE in self.read
        if self.neck is not None:
            self.neck.requires_grad_(self.needs_f_bn)
            self.neck[0].bias.requires_grad_(self.needs_f_bn and neck_bias)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Return the constructor's arguments from a configuration."""
        return {
            "feat_dim": cfg.MODEL.BACKBONE.FEAT_DIM,
            "granularities": cfg.MODEL.HEADS.PAP,
            "pooling": cfg.MODEL.HEADS.POOLING,
            "fusion": cfg.MODEL.HEADS.FUSION,
            "embedding_dim": cfg.MODEL.HEADS.EMBEDDING_DIM,
            "num_classes": cfg.MODEL.HEADS.NUM_CLASSES,
            "loss_names": cfg.MODEL.LOSSES.NAME,
            "output": cfg.MODEL.HEADS.OUTPUT,
            "neck_bias": cfg.MODEL.HEADS.NECK_BIAS,
        }

    def embed(self, feature_map: torch.Tensor) -> torch.Tensor:
        """Return f_e [B, D] of ``feature_map`` [B, C, H, W].

        Raises:
            ValueError: if the map is not four-dimensional or has fewer rows than granularities.
        """
        return self.hyper_network(self.pooling(feature_map))

    def forward(self, feature_map: torch.Tensor) -> torch.Tensor | HeadOutput:
        """Return f_e, f_bn or f_r [B, D] in evaluation, a :class:`HeadOutput` in training."""
        f_e = self.embed(feature_map)
        if not self.training:
            feature = self._feature(f_e)
            if not self._gives_stripes:
                return feature
            return torch.cat([feature, pool_stripes(feature_map, self.stripes).flatten(1)], dim=1)
        f_bn = self.neck[0](f_e) if self.needs_f_bn and self.neck is not None else None
        f_r = self.neck[1](f_bn) if self.needs_f_r and self.neck is not None else None
        stripes = pool_stripes(feature_map, self.stripes) if self.stripes else None
        return HeadOutput(f_e=f_e, f_bn=f_bn, f_r=f_r, logits=self._classify(f_r), stripes=stripes)

    @contextmanager
    def with_stripes(self) -> Iterator[None]:
        """Let the head give the S stripes behind the feature in evaluation, as [B, D + S C], in the block."""
        self._gives_stripes = self.stripes > 0
        try:
            yield
        finally:
            self._gives_stripes = False

    def _feature(self, f_e: torch.Tensor) -> torch.Tensor:
        if self.neck is None or self.output == EMBEDDING:
            return f_e
        return self.neck(f_e) if self.output == RECTIFIED_FEATURE else self.neck[0](f_e)

    def _classify(self, f_r: torch.Tensor | None) -> torch.Tensor | None:
        """Return W^T f_r in W's precision: half precision would round thousands of close logits."""
        if self.classifier is None or f_r is None:
            return None
        with torch.autocast(f_r.device.type, enabled=False):
            return self.classifier(f_r.to(self.classifier.weight.dtype))
