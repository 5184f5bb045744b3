"""Each camera's mean feature and standard deviation, by which a model corrects its features in evaluation.

A camera's light, lens and view shift the features of everybody who passes it, so that a person's images by
another camera come late in a rank list. Subtracting each camera's mean takes the shift away; dividing by its
standard deviation takes the stretch away too (arXiv 2502.10195; VisDA-2020's winners subtract means). The
statistics are those of unlabelled training images: a single image can be corrected, and test images decide
nothing.

Shapes: N images that are measured, B images in the batch, K cameras, D values of a feature.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from nplp.config.choices import CAMERA_MEAN, CAMERA_STANDARDIZE
from nplp.errors import UserError

from .cameras import StateOfTables

__all__ = [
    "CAMERA_STATE",
    "LEAST_FOR_DEVIATION",
    "LEAST_FOR_MEAN",
    "CameraStatistics",
    "Statistics",
    "statistics_by_camera",
]

CAMERA_STATE = ("cameras.", "camera_statistics.", "camera_norms.")
"""How the names begin, in a model's ``state_dict``, of what is measured on the target's cameras."""

LEAST_FOR_MEAN = 5
"""Images from which a camera has a mean of its own, as in the centring of the pseudo-label stage."""
LEAST_FOR_DEVIATION = 20
"""Images from which a camera has deviations of its own: their standard error is a sixth of them then."""
LEAST_SHARE = 0.1
"""Of the overall deviations' root mean square: no deviation is smaller, as quotients would be noise."""

BLOCK = 4096
"""Rows that are in double precision at a time."""


@dataclass(frozen=True)
class Statistics:
    """What is measured; row K is for cameras that are not known.

    Attributes:
        mean: [K + 1, D] float32, of the features as unit vectors.
        deviation: [K + 1, D] float32, above 0.
        count: [K + 1] int64, images of each camera; in row K of all.
    """

    mean: torch.Tensor
    deviation: torch.Tensor
    count: torch.Tensor


def statistics_by_camera(features: torch.Tensor, rows: torch.Tensor, cameras: int) -> Statistics:
    """Return the statistics of each camera's L2-normalised features.

    The overall mean is the mean of the cameras' means, not of all images: it is the best guess at the mean of
    another camera, and the busiest camera must not decide it. Likewise, the overall deviation is the root of
    the mean of the cameras' variances. A camera of fewer than :data:`LEAST_FOR_MEAN` images is in neither and
    takes the overall row; where all are so small, that row is of all images together. A camera of fewer than
    :data:`LEAST_FOR_DEVIATION` takes the overall deviation.

    Memory: the features of 4,096 images in double precision, and 3 x K x D x 8 bytes.

    Args:
        features: [N, D], as the model gives them, on any device.
        rows: [N] int64, each image's camera, 0 to K - 1.
        cameras: K.

    Raises:
        ValueError: if there is no image, or a feature is not finite.
    """
    if not len(features):
        raise ValueError("camera statistics need images, got none")
    counts = torch.bincount(rows, minlength=cameras)
    own = torch.nonzero(counts >= LEAST_FOR_MEAN).flatten().tolist()
    mean = torch.zeros(cameras + 1, features.shape[1], dtype=torch.float64)
    variance = torch.zeros_like(mean)
    for camera in own:
        mean[camera], variance[camera] = _moments(features, torch.nonzero(rows == camera).flatten())
    if own:
        mean[-1], variance[-1] = mean[own].mean(dim=0), variance[own].mean(dim=0)
    else:
        mean[-1], variance[-1] = _moments(features, torch.arange(len(features)))
    if not bool(torch.isfinite(mean).all()):
        raise ValueError("camera statistics need finite features, got some that are infinite or not numbers")
    mean[:-1][counts < LEAST_FOR_MEAN] = mean[-1]
    variance[:-1][counts < LEAST_FOR_DEVIATION] = variance[-1]
    least = LEAST_SHARE * float(variance[-1].mean().sqrt())
    deviation = variance.sqrt().clamp(min=least) if least else torch.ones_like(variance)
    return Statistics(mean.float(), deviation.float(), torch.cat([counts, counts.sum()[None]]))


def _moments(features: torch.Tensor, chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean and the variance [D] float64 of the chosen rows as unit vectors."""

    def blocks() -> Iterator[torch.Tensor]:
        for numbers in chosen.split(BLOCK):
            yield F.normalize(features[numbers.to(features.device)].cpu().double())

    total = squares = torch.zeros(features.shape[1], dtype=torch.float64)
    for block in blocks():
        total = total + block.sum(dim=0)
    mean = total / len(chosen)
    # In a second pass, as a difference of large sums would lose the digits of a small variance.
    for block in blocks():
        squares = squares + (block - mean).square().sum(dim=0)
    return mean, squares / len(chosen)


class CameraStatistics(StateOfTables):
    """Corrects features by the statistics of their cameras, once they are measured.

    Args:
        treatment: "mean" subtracts the camera's mean, "standardize" divides by its deviation then.

    Attributes:
        mean: [K + 1, D] float32; ``None`` until measured, and so the others.
        deviation: [K + 1, D] float32.
        count: [K + 1] int64.
    """

    tables = ("mean", "deviation", "count")
    mean: torch.Tensor | None
    deviation: torch.Tensor | None
    count: torch.Tensor | None

    def __init__(self, treatment: str) -> None:
        super().__init__()
        if treatment not in (CAMERA_MEAN, CAMERA_STANDARDIZE):
            raise UserError(
                f"TEST.CAMERAS must be '{CAMERA_MEAN}' or '{CAMERA_STANDARDIZE}' for statistics, got "
                f"{treatment!r}"
            )
        self.treatment = treatment

    @property
    def measured(self) -> bool:
        """Whether there are statistics."""
        return self.mean is not None

    def assign(self, statistics: Statistics) -> None:
        """Take what was measured, as copies on the module's device."""
        for name in self.tables:
            setattr(self, name, getattr(statistics, name).to(self.device, copy=True))

    def forward(self, features: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return the corrected features [B, D] float32; without statistics those given.

        Args:
            features: [B, D], as the head gives them.
            rows: [B] int64, the cameras' rows.
        """
        if self.mean is None or self.deviation is None:
            return features
        centred = F.normalize(features.float()) - self.mean.index_select(0, rows)
        if self.treatment == CAMERA_MEAN:
            return centred
        return centred / self.deviation.index_select(0, rows)

    def check(self, cameras: int, width: int) -> None:
        """Look at what was loaded.

        Raises:
            UserError: if it is not of so many cameras and values, or holds what cannot be used.
        """
        if self.mean is None or self.deviation is None or self.count is None:
            return
        shapes = tuple(self.mean.shape), tuple(self.deviation.shape), tuple(self.count.shape)
        expected = (cameras + 1, width), (cameras + 1, width), (cameras + 1,)
        if shapes != expected or not bool((self.deviation > 0).all() & self.mean.isfinite().all()):
            raise UserError(
                f"the weights' camera statistics are of shapes {shapes} or hold no statistics, while "
                f"{cameras} cameras and {width} values need {expected}: the file is damaged, use another"
            )
