"""PPLR: part-based pseudo-label refinement (Cho et al., CVPR 2022, arXiv 2203.14675).

The whole image's BN(f_e) is clustered by DBSCAN at a fixed radius and evaluated. Beside it the method has P
stripes of the feature map, PAP's of granularity P, each with a BN neck of its own, and a linear classifier of
the clusters for the whole and for each stripe. An iteration:

1. Each stripe's agreement with the whole is |A & B| / |A | B| of an image's 20 nearest neighbours by either.
2. The rows of each classifier become the clusters' L2-normalised means; they are trained from there.
3. The whole learns from labels that the stripes refine (PGLR), and by the softmax-triplet loss of BN(f_e);
   the stripes learn from smoothed labels, and from the sixth epoch on from labels that are smoothed the more
   the less a stripe agrees (AALS). See :mod:`nplp.losses.part_refinement`.

With CameraProxyLoss in MODEL.LOSSES.NAME it is the form with cameras: the contrast across cameras of the
whole, and the mean of those of the stripes. The authors' proxies stay as the iteration began with them:
MODEL.LOSSES.PROXY.MOMENTUM 1.0.

Where it differs from its authors' code:

* They start from ImageNet weights. Here the whole starts from a source model; the stripes' necks begin anew.
* Their images are 384 x 128: a matter of the configuration (configs/methods/pplr.yml).
* A classifier has as many rows as there, 3000, or fewer for fewer images; more clusters end the run by an
  error that says so.
* NPLP.NORM.REFRESH is about the model's batch norms alone, not the stripes' necks.

Memory: (1 + P) N D values of features while images are labelled, and the classifiers with the optimiser's
moments. Time: as that of a method with one feature, but for P + 1 searches of neighbours an iteration.

Shapes: N target images, c clusters, B images in a batch, P stripes, D values of the whole, C of a stripe.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from fastreid.config import CfgNode
from torch import nn
from torch.nn import functional as F

from nplp.clustering import Constraints
from nplp.clustering.neighbour_agreement import nearest_others, neighbour_agreement
from nplp.errors import UserError
from nplp.losses import (
    LOSSES,
    CameraProxyLoss,
    agreement_smoothed_cross_entropy,
    cluster_centroids,
    part_refined_cross_entropy,
)
from nplp.losses.mutual_teaching import smoothed_cross_entropy
from nplp.losses.registry import CAMERA_PROXY, SOFTMAX_TRIPLET
from nplp.methods.camera_proxies import CameraProxies
from nplp.methods.fixed_radius import CLUSTERER, FixedRadius, radius_options
from nplp.methods.protocol import Labelling
from nplp.methods.registry import check_options, refuse_tables, register_method, require
from nplp.modeling import NPLP, HeadOutput
from nplp.modeling.feature_map import feature_map_rows
from nplp.modeling.norms import divide_batches

__all__ = ["PartRefinement"]

NECK_BLOCK = 4096


class _Parts(nn.Module):
    """What trains beside the model: necks of the stripes, and the classifiers of whole and stripes.

    Args:
        stripes: P.
        channels: C.
        width: D.
        rows: of each classifier.
        proxies: the loss of camera proxies of each stripe; none without cameras.
    """

    def __init__(
        self, stripes: int, channels: int, width: int, rows: int, proxies: Sequence[nn.Module]
    ) -> None:
        super().__init__()
        # Values are normalised one by one: this is a neck for each stripe.
        self.neck = nn.BatchNorm1d(stripes * channels)
        self.neck.bias.requires_grad_(False)
        widths = [width, *[channels] * stripes]
        self.classifiers = nn.ParameterList([nn.Parameter(torch.zeros(rows, size)) for size in widths])
        self.proxies = nn.ModuleList(proxies)


@register_method(
    "pplr",
    options={
        **CLUSTERER,
        **radius_options(epsilon=0.5, k1=30),
        # P, the stripes.
        "PARTS": 3,
        # Neighbours that agreement is measured by, the image itself not counted.
        "NEIGHBOURS": 20,
        # The label's share of the whole image's refined label; the stripes' predictions have the rest.
        "BETA": 0.5,
        # Of the stripes' labels, before agreement smooths them.
        "SMOOTHING": 0.1,
        # Epochs before that, 5 of 50 in PPLR; an iteration of several epochs counts by its first.
        "AGREEMENT_AFTER": 5,
        # Of each classifier; no iteration may have more clusters.
        "ROWS": 3000,
    },
)
class PartRefinement:
    """Clusters whole images at a fixed radius, and trains whole and stripes by how far they agree.

    Its state is the iteration, the number of clusters, the agreements [N, P], the camera proxies where there
    are such, and, until the first step of an iteration, the classifiers' rows. After that these are the
    engine's to keep, as the necks are.

    Args:
        cfg: the configuration.
        model: without a wrapper.

    Raises:
        UserError: if the model's losses, feature or feature map are not those of the method, or an option is
            out of its range.
    """

    two_views = False
    renews_optimizer = False

    def __init__(self, cfg: CfgNode, model: NPLP) -> None:
        require(cfg, SOFTMAX_TRIPLET, "f_bn")
        self._options = options = cfg.NPLP.PPLR
        self._radius = FixedRadius(options, "NPLP.PPLR")
        rows = feature_map_rows(cfg, model.backbone)
        check_options(
            "NPLP.PPLR",
            options,
            ("PARTS", 1 <= options.PARTS <= rows, f"between 1 and the {rows} rows of the feature map"),
            ("NEIGHBOURS", options.NEIGHBOURS >= 1, "at least 1"),
            ("BETA", 0 <= options.BETA <= 1, "in [0, 1]"),
            ("SMOOTHING", 0 <= options.SMOOTHING < 1, "in [0, 1)"),
            ("AGREEMENT_AFTER", options.AGREEMENT_AFTER >= 0, "at least 0"),
            ("ROWS", options.ROWS >= 2, "at least 2"),
        )
        refuse_tables(cfg, model, (CAMERA_PROXY,))
        self._cfg = cfg
        self._model = model
        self._proxies = CameraProxies(model)
        self._parts: _Parts | None = None
        self._iteration = 0
        self._clusters = 0
        self._agreement = torch.empty(0, options.PARTS)
        self._means: list[torch.Tensor] | None = None
        model.heads.stripes = options.PARTS

    def build_networks(self, images: int) -> nn.Module:
        """Return necks and classifiers; there are no more clusters than images."""
        cfg, options = self._cfg, self._options
        count = options.PARTS if CAMERA_PROXY in cfg.MODEL.LOSSES.NAME else 0
        proxies = [LOSSES[CAMERA_PROXY].build(cfg.MODEL.LOSSES) for _ in range(count)]
        channels, width = cfg.MODEL.BACKBONE.FEAT_DIM, self._model.heads.embedding_dim
        self._parts = _Parts(options.PARTS, channels, width, min(options.ROWS, images), proxies)
        divide_batches(self._parts, cfg.MODEL.NORM_CHUNK)
        return self._parts

    def start(self, load: Callable[[nn.Module, str], None]) -> str:
        """Leave the stripes' necks as they are built; return a line for the log."""
        del load
        return f"{self._options.PARTS} stripes beside the whole image, whose necks begin anew"

    def labelled_networks(self) -> Sequence[NPLP]:
        """Return the model, whose feature has its stripes behind it where images are labelled."""
        return (self._model,)

    def label(
        self,
        iteration: int,
        features: torch.Tensor,
        cameras: np.ndarray,
        constraints: Constraints | None = None,
    ) -> Labelling:
        """Cluster the L2-normalised features of the whole images.

        Args:
            iteration: its number.
            features: [N, D + P C], BN(f_e) and the pooled stripes.
            cameras: [N] int64.
            constraints: as :class:`nplp.methods.Method` has them.
        """
        self._iteration = iteration
        width = self._model.heads.embedding_dim
        labelling = self._radius.label(features[:, :width], cameras, constraints)
        return replace(labelling, distances=replace(labelling.distances, columns=width))

    def begin_iteration(self, features: torch.Tensor, labels: np.ndarray, cameras: np.ndarray) -> float:
        """Measure the agreements, and start classifiers and proxies from the clusters' means.

        Raises:
            UserError: if there are more clusters than rows.
        """
        parts = self._built()
        clusters, rows = int(labels.max()) + 1, len(parts.classifiers[0])
        if clusters > rows:
            raise UserError(
                f"NPLP.PPLR.ROWS must be at least the number of clusters, {clusters} in iteration "
                f"{self._iteration}, got {rows}: raise it and begin anew"
            )
        whole, *stripes = spaces = self._spaces(features)
        near = nearest_others(whole.numpy(), self._options.NEIGHBOURS)
        agreements = [
            neighbour_agreement(near, nearest_others(stripe.numpy(), self._options.NEIGHBOURS))
            for stripe in stripes
        ]
        self._agreement = torch.from_numpy(np.stack(agreements, axis=1)).float()
        places = torch.from_numpy(labels)
        self._take_means([F.normalize(cluster_centroids(space, places, clusters)) for space in spaces])
        self._proxies.begin(features[:, : self._model.heads.embedding_dim], labels, cameras)
        for loss, stripe in zip(parts.proxies, stripes, strict=False):
            assert isinstance(loss, CameraProxyLoss)
            loss.begin(stripe, places, torch.from_numpy(cameras))
        return 0.0

    def losses(self, output: HeadOutput, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Return the losses of MODEL.LOSSES.NAME, and those of the classifiers."""
        assert output.f_bn is not None
        assert output.stripes is not None
        parts, targets, weights = self._built(), batch["targets"], batch.get("weights")
        agreement = self._agreement[batch["indices"].cpu()].to(targets.device)
        stripes = parts.neck(output.stripes.flatten(1)).unflatten(1, output.stripes.shape[1:]).unbind(dim=1)
        logits = self._logits(output.f_bn, 0)
        own = [self._logits(stripe, 1 + number) for number, stripe in enumerate(stripes)]
        losses = self._model.losses(output, batch)
        losses["loss_whole"] = part_refined_cross_entropy(
            logits, torch.stack(own, dim=1), targets, agreement, self._options.BETA, weights
        )
        if self._smooths_by_agreement():
            of_parts = [
                agreement_smoothed_cross_entropy(part, targets, agreement[:, number], weights)
                for number, part in enumerate(own)
            ]
        else:
            of_parts = [
                smoothed_cross_entropy(part, targets, self._options.SMOOTHING, weights) for part in own
            ]
        losses["loss_parts"] = torch.stack(of_parts).mean()
        if len(parts.proxies):
            contrasts = [
                loss(stripe, targets, batch["camids"], weights)
                for loss, stripe in zip(parts.proxies, stripes, strict=True)
            ]
            losses["loss_part_proxies"] = torch.stack(contrasts).mean()
        return losses

    def after_step(self) -> None:
        """From here on the classifiers' rows are not the means any more."""
        self._means = None

    def state_dict(self) -> dict[str, Any]:
        """Return what no network holds."""
        proxies = [loss.proxies() for loss in self._built().proxies if isinstance(loss, CameraProxyLoss)]
        return {
            "iteration": self._iteration,
            "clusters": self._clusters,
            "agreement": self._agreement.clone(),
            **({} if self._means is None else {"means": [rows.clone() for rows in self._means]}),
            **({"part_proxies": proxies} if proxies else {}),
            **self._proxies.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state, beside the networks' own."""
        self._iteration, self._clusters = int(state["iteration"]), int(state["clusters"])
        self._agreement = state["agreement"].clone()
        self._means = None
        if "means" in state:
            self._take_means(state["means"])
        for loss, proxies in zip(self._built().proxies, state.get("part_proxies", []), strict=True):
            assert isinstance(loss, CameraProxyLoss)
            loss.restore_proxies(proxies)
        self._proxies.load_state_dict(state)

    def _built(self) -> _Parts:
        assert self._parts is not None, "build_networks comes first"
        return self._parts

    def _smooths_by_agreement(self) -> bool:
        epochs = (self._iteration - 1) * self._cfg.NPLP.EPOCHS_PER_ITERATION
        return epochs >= self._options.AGREEMENT_AFTER

    @torch.no_grad()
    def _take_means(self, means: list[torch.Tensor]) -> None:
        self._means = [rows.cpu() for rows in means]
        self._clusters = len(means[0])
        for weights, rows in zip(self._built().classifiers, means, strict=True):
            weights[: self._clusters] = rows.to(weights)

    def _logits(self, features: torch.Tensor, number: int) -> torch.Tensor:
        """Return the logits [B, c] of a classifier in its precision."""
        weights = self._built().classifiers[number][: self._clusters]
        with torch.autocast(weights.device.type, enabled=False):
            return features.to(weights.dtype) @ weights.T

    @torch.no_grad()
    def _spaces(self, features: torch.Tensor) -> list[torch.Tensor]:
        """Return the L2-normalised features of whole [N, D] and stripes [N, C] on the CPU."""
        width, neck = self._model.heads.embedding_dim, self._built().neck
        was_training, device = neck.training, self._model.device
        neck.eval()
        blocks = [neck(block.to(device)).cpu() for block in features[:, width:].split(NECK_BLOCK)]
        neck.train(was_training)
        stripes = torch.cat(blocks).chunk(self._options.PARTS, dim=1)
        return [F.normalize(space) for space in (features[:, :width].cpu(), *stripes)]
