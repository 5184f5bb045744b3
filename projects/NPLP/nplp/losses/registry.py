"""The losses that MODEL.LOSSES.NAME can name. A new loss is a file beside this one and an entry here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from nplp.errors import UserError

from .camera_proxies import CameraProxyLoss
from .center_contrastive import CenterContrastiveLoss
from .cluster_memory import ClusterMemoryLoss
from .hybrid_memory import HybridMemoryLoss
from .mutual_teaching import MutualTeachingLoss
from .pair_triplet import PairTripletLoss
from .part_refinement import SoftmaxTripletLoss
from .softmax import SoftmaxLoss
from .triplet import BatchHardTripletLoss

__all__ = [
    "CAMERA_PROXY",
    "CENTER_CONTRASTIVE",
    "CLUSTER_MEMORY",
    "CROSS_ENTROPY",
    "HYBRID_MEMORY",
    "LOSSES",
    "MUTUAL_TEACHING",
    "OUTPUTS",
    "PAIR_TRIPLET",
    "SOFTMAX_TRIPLET",
    "TAKEN",
    "TRIPLET",
    "WEIGHTS",
    "Loss",
    "check_losses",
    "register_loss",
]

CROSS_ENTROPY = "CrossEntropyLoss"
TRIPLET = "TripletLoss"
CENTER_CONTRASTIVE = "CenterContrastiveLoss"
CLUSTER_MEMORY = "ClusterMemoryLoss"
CAMERA_PROXY = "CameraProxyLoss"
MUTUAL_TEACHING = "MutualTeachingLoss"
PAIR_TRIPLET = "PairTripletLoss"
HYBRID_MEMORY = "HybridMemoryLoss"
SOFTMAX_TRIPLET = "SoftmaxTripletLoss"

OUTPUTS = ("f_e", "f_bn", "f_r", "logits")
"""The head's outputs that a loss can read."""

WEIGHTS = "weights"
TAKEN = (WEIGHTS, "camids", "indices")
"""What a loss can take of a batch besides labels: each image's weight, if there is one; camera; number."""


@dataclass(frozen=True)
class Loss:
    """A loss and its place in configuration, head and log.

    Attributes:
        name: its value in MODEL.LOSSES.NAME.
        module: its class; called with the output that it reads and integer labels [B], it returns a scalar.
        log_name: its name in the log, beginning with ``loss_``.
        reads: the head's output that it reads, one of ``OUTPUTS``.
        section: its section of MODEL.LOSSES; empty where it has no options.
        options: its keys in that section and their defaults: the arguments of ``module`` in upper case.
        takes: what of the batch it is called with besides, as keywords: any of ``TAKEN``.
    """

    name: str
    module: Callable[..., nn.Module]
    log_name: str
    reads: str
    section: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    takes: tuple[str, ...] = ()

    def taken(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the loss takes of a batch, by name."""
        return {key: batch[key] for key in self.takes if key in batch}

    def build(self, losses: Any = None) -> nn.Module:
        """Return the loss as ``losses``, the section MODEL.LOSSES, sets it; by default with its defaults.

        Raises:
            UserError: naming a key whose value is out of its range.
        """
        values = self.options
        if losses is not None and self.section:
            values = {key: getattr(getattr(losses, self.section), key) for key in self.options}
        try:
            return self.module(**{key.lower(): value for key, value in values.items()})
        except ValueError as error:
            option, _, rule = str(error).partition(" ")
            raise UserError(f"MODEL.LOSSES.{self.section}.{option.upper()} {rule}") from error


LOSSES: dict[str, Loss] = {}
"""Every loss by its name, in the order in which they are added up."""


def register_loss(loss: Loss) -> None:
    """Add a loss.

    Raises:
        ValueError: if its name is taken, or it reads what the head or the batch does not give.
    """
    if loss.name in LOSSES or loss.reads not in OUTPUTS:
        raise ValueError(f"a loss needs a name of its own and one of the outputs {OUTPUTS}, got {loss}")
    if not set(loss.takes) <= set(TAKEN):
        raise ValueError(f"a loss takes any of {TAKEN} of a batch, got {loss}")
    LOSSES[loss.name] = loss


register_loss(Loss(CROSS_ENTROPY, SoftmaxLoss, "loss_cls", reads="logits", takes=(WEIGHTS,)))
register_loss(
    Loss(
        TRIPLET,
        BatchHardTripletLoss,
        "loss_triplet",
        reads="f_e",
        section="TRI",
        # Eq. 1 sums over the batch; "mean" keeps the scale independent of the batch's size.
        # NEGATIVES: "all" as in eq. 1; "own" takes an image's negatives from its own camera alone, where
        # another cluster is another person: across cameras it may be a part of the same one.
        options={"MARGIN": 0.3, "REDUCTION": "mean", "NEGATIVES": "all"},
        takes=(WEIGHTS, "camids"),
    )
)
register_loss(
    Loss(
        CENTER_CONTRASTIVE,
        CenterContrastiveLoss,
        "loss_cc",
        reads="f_r",
        section="CC",
        # NORMALIZE: L2-normalise f_r and the lookup table V; the literal form (False) diverges.
        # TEMPERATURE: logits are divided by it in the normalised form.
        # UPDATE: eq. 11, V_i <- (V_i + f_r) / 2, in the backward pass.
        options={"NORMALIZE": True, "TEMPERATURE": 0.1, "UPDATE": True},
        takes=(WEIGHTS,),
    )
)
register_loss(
    Loss(
        CLUSTER_MEMORY,
        ClusterMemoryLoss,
        "loss_memory",
        reads="f_bn",
        section="MEMORY",
        # MOMENTUM: the share of the OLD row that each sample leaves, 0.1 as published: not that of the new.
        # HARD: only the least similar image of each identity in the batch updates the row, once.
        options={"TEMPERATURE": 0.05, "MOMENTUM": 0.1, "HARD": False},
        takes=(WEIGHTS,),
    )
)
register_loss(
    Loss(
        CAMERA_PROXY,
        CameraProxyLoss,
        "loss_proxy",
        # Not f_r: its values are all at least 0, so that even unlike images have similar directions.
        reads="f_bn",
        section="PROXY",
        # TEMPERATURE, MOMENTUM (the share of the OLD row that each sample leaves) and NEGATIVES (the hardest
        # proxies of other clusters in the softmax): as CAP published them.
        # WEIGHT: factor of the contrast across cameras; 0.5 in CAP, 0.5 to 1 in PPLR.
        # INTRA_WEIGHT: factor of CAP's cross-entropy over the proxies of the image's own camera, 1 there.
        # POSITIVES: "others", the cluster's proxies in other cameras (PPLR), or "all" of the cluster's
        # proxies (CAP, O2CAP).
        # REDUCTION: "mean" over the batch, or "cameras": the sum of the means over each camera's images, as
        # in CAP and O2CAP. It grows with the number of cameras in a batch.
        # ONLINE_WEIGHT: factor of O2CAP's online association, 1 there; ONLINE_POSITIVES of each camera's
        # nearest proxy are then positive, by BALANCE x the image's similarity and 1 - BALANCE x its proxy's.
        options={
            "TEMPERATURE": 0.07,
            "MOMENTUM": 0.2,
            "NEGATIVES": 50,
            "WEIGHT": 0.5,
            "INTRA_WEIGHT": 0.0,
            "POSITIVES": "others",
            "REDUCTION": "mean",
            "ONLINE_WEIGHT": 0.0,
            "ONLINE_POSITIVES": 3,
            "BALANCE": 0.15,
        },
        takes=(WEIGHTS, "camids"),
    )
)
register_loss(
    Loss(
        MUTUAL_TEACHING,
        MutualTeachingLoss,
        "loss_mutual",
        # Of the neck's feature are the classes, of f_e the triplets; the method "mmt" calls it with both.
        reads="f_bn",
        section="MUTUAL",
        # SMOOTHING: of the labels of clusters. SOFT_CLASSES, SOFT_TRIPLETS: the teacher's share of the loss
        # of classes and of triplets, the labels have the rest. As MMT published them.
        options={"SMOOTHING": 0.1, "SOFT_CLASSES": 0.5, "SOFT_TRIPLETS": 0.8},
        takes=(WEIGHTS,),
    )
)
register_loss(
    Loss(
        PAIR_TRIPLET,
        PairTripletLoss,
        "loss_pairs",
        # The ReLU of the BN neck; the methods "uda" and "ssg" add it of the pooled features.
        reads="f_r",
        section="PAIRS",
        # MARGIN: as UDA and SSG published it.
        options={"MARGIN": 0.5},
        takes=(WEIGHTS,),
    )
)
register_loss(
    Loss(
        HYBRID_MEMORY,
        HybridMemoryLoss,
        "loss_hybrid",
        reads="f_bn",
        section="HYBRID",
        # MOMENTUM: the share of the OLD row that an image leaves of its own, as published.
        options={"TEMPERATURE": 0.05, "MOMENTUM": 0.2},
        takes=(WEIGHTS, "indices"),
    )
)
register_loss(
    Loss(
        SOFTMAX_TRIPLET,
        SoftmaxTripletLoss,
        "loss_softmax_triplet",
        # As in PPLR; MMT has its own, of f_e.
        reads="f_bn",
        takes=(WEIGHTS,),
    )
)


def check_losses(names: Sequence[str]) -> None:
    """Check the names of losses.

    Raises:
        UserError: if there is none, or one that is not known.
    """
    if not names or set(names) - set(LOSSES):
        raise UserError(f"MODEL.LOSSES.NAME must name one or more of {tuple(LOSSES)}, got {tuple(names)}")
