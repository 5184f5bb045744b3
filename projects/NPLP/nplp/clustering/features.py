"""Features as the distances see them: rows in float64, camera-centred if asked, never all at once.

Shapes: N samples, D dimensions, G groups (cameras) with a common offset.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

__all__ = ["MIN_CAMERA_IMAGES", "FeatureRows", "camera_offsets", "group_mean"]

MIN_CAMERA_IMAGES = 5
"""A camera with fewer images than this keeps the global mean: its own would be mostly noise."""

_BLOCK_VALUES = 1 << 21
"""Float64 values in a temporary block: 16 MB."""


def group_mean(values: torch.Tensor, members: np.ndarray) -> np.ndarray:
    """Return the float64 mean [D] of the rows `members` of values [N, D], summed in bounded blocks."""
    total = torch.zeros(values.shape[1], dtype=torch.float64, device=values.device)
    step = max(1, _BLOCK_VALUES // values.shape[1])
    for start in range(0, len(members), step):
        index = torch.from_numpy(members[start : start + step]).to(values.device)
        total += values[index].to(torch.float64).sum(dim=0)
    return (total / len(members)).cpu().numpy()


def camera_offsets(values: torch.Tensor, camera_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what camera centring subtracts from each sample.

    Args:
        values: [N, D] features.
        camera_ids: [N] int64.

    Returns:
        offsets: [G, D] float64, the mean feature of each camera; the mean of all samples for a camera of
            fewer than `MIN_CAMERA_IMAGES` images.
        groups: [N] int64, the row of `offsets` that belongs to each sample.
    """
    cameras, groups = np.unique(camera_ids, return_inverse=True)
    overall = group_mean(values, np.arange(len(values)))
    offsets = np.tile(overall, (len(cameras), 1))
    for group in range(len(cameras)):
        members = np.flatnonzero(groups == group)
        if len(members) >= MIN_CAMERA_IMAGES:
            offsets[group] = group_mean(values, members)
    return offsets, groups.reshape(-1).astype(np.int64)


@dataclass(frozen=True)
class FeatureRows:
    """Features [N, D] with an optional offset a group, read in float64 blocks.

    Attributes:
        values: [N, D] float32 or float64, as given, on any device.
        offsets: [G, D] float64 subtracted from the rows of each group, or None for none.
        groups: [N] int64, the group of each row, or None.
    """

    values: torch.Tensor
    offsets: np.ndarray | None = None
    groups: np.ndarray | None = None

    @classmethod
    def centred_by_camera(cls, values: torch.Tensor, camera_ids: np.ndarray) -> FeatureRows:
        """Return features with each camera's mean subtracted; see `camera_offsets`."""
        return cls(values, *camera_offsets(values, camera_ids))

    def __len__(self) -> int:
        return len(self.values)

    @property
    def dimension(self) -> int:
        """D."""
        return int(self.values.shape[1])

    def subset(self, members: np.ndarray) -> FeatureRows:
        """Return the rows `members` [M] int64, a copy of M x D values."""
        values = self.values[torch.from_numpy(members).to(self.values.device)]
        return FeatureRows(values, self.offsets, None if self.groups is None else self.groups[members])

    def block(self, start: int, stop: int, origin: np.ndarray | None = None) -> torch.Tensor:
        """Return rows start..stop-1 as float64 on the features' device, less `origin` [D] if given."""
        rows = self.values[start:stop].to(torch.float64)
        if self.offsets is not None and self.groups is not None:
            shift = self.offsets if origin is None else self.offsets + origin
            rows = rows - torch.from_numpy(shift[self.groups[start:stop]]).to(rows.device)
        elif origin is not None:
            rows = rows - torch.from_numpy(origin).to(rows.device)
        return rows

    def mean(self) -> np.ndarray:
        """Return the float64 mean [D] of all rows, offsets subtracted."""
        mean = group_mean(self.values, np.arange(len(self)))
        if self.offsets is not None and self.groups is not None:
            share = np.bincount(self.groups, minlength=len(self.offsets)) / len(self)
            mean = mean - share @ self.offsets
        return mean

    def squared_distances(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return squared Euclidean distances of pairs from the differences themselves, in float64.

        This is the reference that near ties are settled by. Every pair is summed by itself, on the CPU, so
        that its value depends neither on the device nor on which other pairs are asked for.

        Args:
            first: [P] int64 rows.
            second: [P] int64 rows.

        Returns:
            [P] float64. Memory: two float64 blocks of 16 MB, or two rows where one is longer.
        """
        result = np.empty(len(first), dtype=np.float64)
        step = max(1, _BLOCK_VALUES // self.dimension)
        for start in range(0, len(first), step):
            part = slice(start, start + step)
            difference = self._gather(first[part]) - self._gather(second[part])
            result[part] = np.einsum("pd,pd->p", difference, difference)
        return result

    def _gather(self, rows: np.ndarray) -> np.ndarray:
        """Return rows [P] as a C-ordered float64 array [P, D] on the CPU."""
        gathered = self.values[torch.from_numpy(rows).to(self.values.device)].cpu().numpy().astype(np.float64)
        if self.offsets is not None and self.groups is not None:
            gathered -= self.offsets[self.groups[rows]]
        return gathered
