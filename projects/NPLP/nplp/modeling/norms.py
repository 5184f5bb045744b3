"""Which batch norms a model has: torch's own, or those that divide a batch into chunks or by cameras.

Shapes: B images in the batch, K cameras that the model knows, S channels of all batch norms of a backbone.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from fastreid.config import CfgNode
from torch import nn

from nplp.errors import UserError
from nplp.layers import GroupedBatchNorm, NormGroups, group_batch_norms

from .cameras import StateOfTables

__all__ = ["LEAST_IN_BATCH", "CameraNorms", "check_chunks", "divide_batches", "order_by_camera"]

LEAST_IN_BATCH = 4
"""Images of one camera from which they have statistics of their own within a training batch.

As many as a batch has of an identity: fewer are often one person alone."""


def divide_batches(model: nn.Module, chunk: int) -> NormGroups:
    """Let the batch norms of ``model`` normalise training batches over chunks of ``chunk`` images.

    With 0 the model stays as it is. Names and tensors of its state are the same with and without chunks.

    Raises:
        UserError: if ``chunk`` is negative or 1, or the model's batch norms cannot be divided.
    """
    try:
        groups = NormGroups(chunk)
    except ValueError as error:
        raise UserError(f"MODEL.NORM_CHUNK: {error}") from error
    if chunk:
        _replace(model, groups, f"MODEL.NORM_CHUNK {chunk}")
    return groups


def _replace(model: nn.Module, groups: NormGroups, asked: str) -> list[GroupedBatchNorm]:
    """Divide the batches of all batch norms of ``model``.

    Raises:
        UserError: naming what was ``asked`` for, if that is not possible or there is none.
    """
    try:
        norms = group_batch_norms(model, groups)
    except ValueError as error:
        raise UserError(f"{asked}: {error}: set MODEL.BACKBONE.NORM to BN, or leave {asked} out") from error
    if not norms:
        raise UserError(f"{asked}: the model has no batch norms, leave it out")
    return norms


def check_chunks(cfg: CfgNode, processes: int) -> None:
    """Check that each process's share of a training batch divides into its parts, and these into chunks.

    Raises:
        UserError: naming key and share.
    """
    chunk, parts, batch = cfg.MODEL.NORM_CHUNK, cfg.SOLVER.ACCUMULATE, cfg.SOLVER.IMS_PER_BATCH
    share = batch // processes
    taken = f"that each of {processes} process(es) takes of a batch (SOLVER.IMS_PER_BATCH {batch})"
    if share % parts:
        raise UserError(f"SOLVER.ACCUMULATE must divide the {share} images {taken}, got {parts}")
    if chunk and (share // parts) % chunk:
        at_once = f" in each of SOLVER.ACCUMULATE {parts} parts" if parts > 1 else ""
        raise UserError(
            f"MODEL.NORM_CHUNK must divide the {share // parts} images {taken}{at_once}, got {chunk}"
        )


def order_by_camera(cameras: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
    """Return an order in which images that are normalised together follow each other, and the groups' sizes.

    Each camera of :data:`LEAST_IN_BATCH` images or more is a group. All other images are one group together;
    where these are fewer than that, they go to the largest camera.

    Args:
        cameras: [B] integers, below 0 where unknown.

    Returns:
        [B] int64, numbers of images, and sizes that sum to B.
    """
    numbers, group, counts = torch.unique(cameras, return_inverse=True, return_counts=True)
    own = (counts >= LEAST_IN_BATCH) & (numbers >= 0)
    # A device's work is waited for here, once a batch.
    left = int(counts[~own].sum())
    rest = len(numbers)
    if 0 < left < LEAST_IN_BATCH and bool(own.any()):
        rest = int(torch.where(own, counts, 0).argmax())
    group = torch.where(own[group], group, rest)
    sizes = torch.bincount(group, minlength=rest + 1)
    return group.argsort(stable=True), sizes[sizes > 0].tolist()


class CameraNorms(StateOfTables):
    """Batch norms of a backbone that normalise each camera's images by that camera's own statistics.

    Camera-based batch normalization (Zhuang et al., "Rethinking the distribution gap of person
    re-identification with camera-based batch normalization", ECCV 2020, arXiv 2001.08680): in training the
    statistics are those of a camera's images within the batch, in evaluation those of several batches of a
    camera's images; weights and biases are shared. Here evaluation's statistics are of the target's training
    images, never of test images. A camera of few images in a batch is normalised together with others
    (:func:`order_by_camera`), and cameras that are not known have the statistics of all.

    The neck of the head is not among these norms: a feature is one value an image and channel, too little for
    statistics of a camera within a batch, and the backbone has aligned the cameras before it.

    Memory: 2 (K + 1) S x 4 bytes, and 2 B S x 4 while B images are evaluated; S is about 26,000 for
    ResNet-50.

    Args:
        backbone: its batch norms are replaced in place; names and tensors of its state stay.

    Attributes:
        mean: [K + 1, S] float32; ``None`` until measured, and so the variance. Row K is for other cameras.
        variance: [K + 1, S] float32.
        norms: the batch norms, whose ``channels`` are columns of the tables.
        groups: what they share.

    Raises:
        UserError: if the backbone has no batch norms, or some that cannot be divided.
    """

    tables = ("mean", "variance")
    mean: torch.Tensor | None
    variance: torch.Tensor | None

    def __init__(self, backbone: nn.Module, groups: NormGroups) -> None:
        super().__init__()
        self.groups = groups
        # In a tuple: they are parts of the backbone, not of this module.
        self.norms = tuple(_replace(backbone, groups, "MODEL.NORM_CAMERAS True"))

    @property
    def measured(self) -> bool:
        """Whether there are statistics of cameras."""
        return self.mean is not None

    @property
    def width(self) -> int:
        """S."""
        return self.norms[-1].channels.stop

    def assign(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        """Take measured tables [K + 1, S], as copies on the module's device."""
        self.mean, self.variance = (
            table.to(self.device, torch.float32, copy=True) for table in (mean, variance)
        )

    @contextmanager
    def of_rows(self, rows: torch.Tensor) -> Iterator[None]:
        """Let evaluation within the block normalise images by the rows [B] of their cameras.

        Before they are measured, it normalises by the running statistics.
        """
        if self.mean is not None and self.variance is not None:
            self.groups.statistics = self.mean.index_select(0, rows), self.variance.index_select(0, rows)
        try:
            yield
        finally:
            self.groups.statistics = None

    @contextmanager
    def of_sizes(self, sizes: list[int]) -> Iterator[None]:
        """Let training within the block normalise consecutive groups of these sizes."""
        self.groups.given = sizes
        try:
            yield
        finally:
            self.groups.given = None

    def check(self, cameras: int) -> None:
        """Look at what was loaded.

        Raises:
            UserError: if it is not of so many cameras and the backbone's channels, or holds no statistics.
        """
        if self.mean is None or self.variance is None:
            return
        shapes, expected = (tuple(self.mean.shape), tuple(self.variance.shape)), (cameras + 1, self.width)
        if set(shapes) != {expected} or not bool((self.variance >= 0).all() & self.mean.isfinite().all()):
            raise UserError(
                f"the weights' statistics of batch norms by camera are of shapes {shapes} or hold what are "
                f"none, {expected} is needed for {cameras} cameras: the file is damaged, use another"
            )
