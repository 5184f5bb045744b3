"""What the engine needs of a method, and nothing more.

Shapes: N target images, D values of a feature, B images in a batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from fastreid.config import CfgNode
from torch import nn
from torch.nn import functional as F

from nplp.clustering import Constraints, PseudoLabels
from nplp.modeling import NPLP, HeadOutput

__all__ = ["DistanceSettings", "Labelling", "Method", "NetworkMethod"]

_SHARED = (
    *("k1", "k2", "camera_centering", "camera_scaling"),
    *("k1_intra", "k1_inter", "k2_intra", "k2_inter"),
)
"""Settings that are called the same here, in a section of the configuration and in `nplp.clustering`."""


@dataclass(frozen=True)
class DistanceSettings:
    """How a method measures distances among features, for the rules and for the histograms of the page.

    Attributes:
        name: "jaccard", "camera_jaccard", "relative_jaccard" or "euclidean".
        normalize: L2-normalise the features first.
        k1: neighbours of the Jaccard distance.
        k2: neighbours of its local query expansion.
        camera_centering: subtract each camera's mean feature first.
        camera_scaling: divide by each camera's deviations too, and normalise again.
        k1_intra: neighbours of the camera-aware Jaccard distance in the own camera.
        k1_inter: the same in the other cameras.
        k2_intra: images of the own camera in its local query expansion.
        k2_inter: the same of the other cameras.
        columns: the feature's first values, which alone are looked at; all by default.
    """

    name: str = "jaccard"
    normalize: bool = True
    k1: int = 20
    k2: int = 6
    camera_centering: bool = False
    camera_scaling: bool = False
    k1_intra: int = 5
    k1_inter: int = 20
    k2_intra: int = 2
    k2_inter: int = 4
    columns: int | None = None

    @classmethod
    def of(cls, options: CfgNode, normalize: bool) -> "DistanceSettings":
        """Return what a method's section of the configuration says, which has all of these keys but one.

        Args:
            options: the section, with DISTANCE, K1, K2, CAMERA_CENTERING and so on.
            normalize: L2-normalise the features first.
        """
        return cls(
            options.DISTANCE,
            normalize,
            **{name: getattr(options, name.upper()) for name in _SHARED},
        )

    def prepare(self, features: torch.Tensor) -> torch.Tensor:
        """Return features [N, D] as they are to be clustered."""
        features = features[:, : self.columns]
        return F.normalize(features) if self.normalize else features

    def keywords(self) -> dict[str, Any]:
        """Return the arguments of `estimate_pseudo_labels` and `distance_histogram` that say the same."""
        return {"distance": self.name, **{name: getattr(self, name) for name in _SHARED}}


@dataclass(frozen=True)
class Labelling:
    """What a method says of an iteration's images.

    Attributes:
        estimate: labels [N] int64, 0..c-1, -1 for images left out, with what the log, the rules and the
            page show of how they were made.
        distances: how distances were measured.
        radius_key: the configuration's key that makes clusters larger, for what the rules advise.
        density_key: the same for DBSCAN's min_samples.
    """

    estimate: PseudoLabels
    distances: DistanceSettings
    radius_key: str = "NPLP.ALPHA"
    density_key: str = "NPLP.MIN_SAMPLES"


class Method(Protocol):
    """Makes pseudo-labels at the beginning of each iteration and losses in each step.

    In several processes all call :meth:`label` with the same features, and get the same labels: what it takes
    from `nplp.clustering` is divided among them, and nothing else in it may depend on the process. With
    NPLP.SHARED_LABELS off the main process alone calls it. The main process alone calls
    :meth:`begin_iteration`; the others take its :meth:`state_dict`. All call :meth:`losses`, which may
    communicate.

    A class with an attribute ``trains_outliers = True`` trains on images left out too, each as a cluster of
    one: batches give them the labels c, c + 1, ... in the order of the images, as
    :func:`nplp.clustering.outliers_as_clusters` does, and the sampler draws each once where it draws K images
    of a cluster.

    With ``corrects = True`` the iterations after NPLP.STARTUP_ITERATIONS are logged as the correcting stage.
    """

    def label(
        self,
        iteration: int,
        features: torch.Tensor,
        cameras: np.ndarray,
        constraints: Constraints | None = None,
    ) -> Labelling:
        """Return the pseudo-labels of an iteration, from 1.

        Args:
            iteration: its number.
            features: [N, D] float32, finite, of the model in evaluation mode, on any device.
            cameras: [N] int64.
            constraints: of the N images, which the labels should keep; not given but with NPLP.TRACKS.
        """

    def begin_iteration(self, features: torch.Tensor, labels: np.ndarray, cameras: np.ndarray) -> float:
        """Build the memory from the labels that are trained on.

        Called after :meth:`label`; twice where a rule of the engine replaces the labels by those of the
        iteration before.

        Args:
            features: [N, D] as in :meth:`label`.
            labels: [N] int64, 0..c-1 without gaps and c >= 1, -1 for images left out.
            cameras: [N] int64, the numbers that batches give as "camids".

        Returns:
            The largest logit that the memory gives these images; 0 where logits have a bound.
        """

    def losses(self, output: HeadOutput, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Return the scalars that a step minimises the sum of, by name, each beginning with ``loss_``.

        Args:
            output: the head's, in training mode.
            batch: of B images, with "targets" [B] int64, their labels; "indices" [B] int64, their numbers
                among the N; "camids" [B] int64; and, with NPLP.CAMERA_ENTROPY_WEIGHT, "weights" [B] float64.

        With NPLP.SAME_AT_ANY_WORLD_SIZE the B images are those of all processes, but for "images" themselves.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return all that :meth:`load_state_dict` needs to go on to the bit, as tensors and numbers.

        Tensors are copies on the CPU: a step in between does not change them.
        """

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state, whatever the shape of its memory."""


@runtime_checkable
class NetworkMethod(Method, Protocol):
    """A method that trains further networks beside the model, or in its place.

    The model stays what is evaluated, exported and saved as the final one. The networks are in the optimiser,
    on the model's device, in the checkpoints and, in several processes, equal everywhere: none of this is the
    method's work, nor in its :meth:`state_dict`. :meth:`losses` runs them; every weight of theirs that
    requires a gradient must get one in each step.

    Attributes:
        two_views: whether batches have "second_images" too: the same images, transformed once more.
        renews_optimizer: whether the optimiser forgets its moments at the beginning of each iteration.
    """

    two_views: bool
    renews_optimizer: bool

    def build_networks(self, images: int) -> nn.Module:
        """Return the further networks as one module, once, before the optimiser is built.

        Args:
            images: N.
        """

    def start(self, load: Callable[[nn.Module, str], None]) -> str:
        """Begin from the model's weights, which have been loaded; return a line for the log.

        Called again where other weights take their place.

        Args:
            load: fills a network from a file of weights, and refuses what does not fit.
        """

    def labelled_networks(self) -> Sequence[NPLP]:
        """Return the networks whose mean feature, each L2-normalised, is what :meth:`label` is given."""

    def after_step(self) -> None:
        """Do what follows the optimiser's step, in every process."""
