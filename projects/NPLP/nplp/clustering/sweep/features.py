"""Features that distances are made from: read in place, camera-centred on request, never copied whole.

Shapes: N samples, D dimensions, G groups (cameras) with a common offset, P pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from nplp.clustering.sweep.compiling import compiled
from nplp.clustering.sweep.parallel import row_blocks, run_blocks

__all__ = [
    "MIN_CAMERA_IMAGES",
    "MIN_SCALED_IMAGES",
    "FeatureRows",
    "camera_offsets",
    "centred_rows",
    "half_rows",
    "scaled_by_camera",
    "squared_distance",
]

MIN_CAMERA_IMAGES = 5
"""A camera with fewer images than this keeps the global mean: its own would be mostly noise."""
MIN_SCALED_IMAGES = 20
"""A camera with fewer images than this takes the deviations over all cameras: its own are off by a sixth."""

_PAIR_BLOCK = 1 << 14
_ROW_BLOCK = 1024


@compiled(error_model="numpy", fastmath={"reassoc", "contract"})
def squared_distance(values, offsets, groups, i, j):  # type: ignore[no-untyped-def]
    """Return the squared Euclidean distance of two rows from their differences, in float64.

    It settles near ties. No other code sums such differences, so that a pair has one value everywhere.
    """
    x, y = values[i], values[j]
    total = 0.0
    if groups[i] == groups[j]:
        for d in range(values.shape[1]):
            difference = np.float64(x[d]) - np.float64(y[d])
            total += difference * difference
        return total
    shift_x, shift_y = offsets[groups[i]], offsets[groups[j]]
    for d in range(values.shape[1]):
        difference = (np.float64(x[d]) - np.float64(y[d])) - (shift_x[d] - shift_y[d])
        total += difference * difference
    return total


@compiled(error_model="numpy")
def _squared_distances(values, offsets, groups, first, second, out):  # type: ignore[no-untyped-def]
    for pair in range(len(first)):
        out[pair] = squared_distance(values, offsets, groups, first[pair], second[pair])


@compiled(error_model="numpy")
def centred_rows(values, offsets, groups, origin, scale, members, out):  # type: ignore[no-untyped-def]
    """Write scale (x - offset - origin) of the rows `members` [M] to out [M, D], subtracted in float64."""
    for row in range(len(members)):
        x, shift, y = values[members[row]], offsets[groups[members[row]]], out[row]
        for d in range(values.shape[1]):
            y[d] = ((np.float64(x[d]) - shift[d]) - origin[d]) * scale


@compiled(error_model="numpy")
def half_rows(values, offsets, groups, origin, scale, members, out):  # type: ignore[no-untyped-def]
    """Write what `centred_rows` does to out [M, D] uint16: the bits of bfloat16, rounded to nearest even."""
    single = np.empty((1, values.shape[1]), dtype=np.float32)
    bits = single.view(np.uint32)
    for row in range(len(members)):
        centred_rows(values, offsets, groups, origin, scale, members[row : row + 1], single)
        for d in range(values.shape[1]):
            bit = bits[0, d]
            out[row, d] = (bit + np.uint32(0x7FFF) + ((bit >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)


@compiled(error_model="numpy")
def _group_sums(values, groups, sums):  # type: ignore[no-untyped-def]
    for row in range(len(values)):
        total, x = sums[groups[row]], values[row]
        for d in range(values.shape[1]):
            total[d] += x[d]


@compiled(error_model="numpy", fastmath={"reassoc", "contract"})
def _squared_norms(values, offsets, groups, origin, start, stop, out):  # type: ignore[no-untyped-def]
    for row in range(start, stop):
        x, shift = values[row], offsets[groups[row]]
        total = 0.0
        for d in range(values.shape[1]):
            centred = (np.float64(x[d]) - shift[d]) - origin[d]
            total += centred * centred
        out[row] = total


def _group_means(values: np.ndarray, groups: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the float64 mean [count, D] of each group's rows and the groups' sizes [count]."""
    sums = np.zeros((count, values.shape[1]))
    _group_sums(values, groups, sums)
    sizes = np.bincount(groups, minlength=count)
    return sums / np.maximum(sizes, 1)[:, None], sizes


def camera_offsets(values: np.ndarray, camera_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what camera centring subtracts from each sample.

    Args:
        values: [N, D] features, float32 or float64.
        camera_ids: [N] int64.

    Returns:
        offsets: [G, D] float64, the mean feature of each camera; the mean of all samples for a camera of
            fewer than `MIN_CAMERA_IMAGES` images.
        groups: [N] int64, the row of `offsets` that belongs to each sample.
    """
    groups = np.unique(camera_ids, return_inverse=True)[1].reshape(-1).astype(np.int64)
    means, sizes = _group_means(values, groups, int(groups.max()) + 1)
    means[sizes < MIN_CAMERA_IMAGES] = sizes @ means / len(values)
    return means, groups


def scaled_by_camera(values: np.ndarray, camera_ids: np.ndarray) -> np.ndarray:
    """Return features less their camera's mean, over its standard deviations, and L2-normalised again.

    "Exploring the Camera Bias of Person Re-identification", arXiv 2502.10195: f^ = (f - m_y) / sigma_y with
    the mean and the deviation of each value over the images of camera y, compared by their directions. All
    deviations are then 1, so that without normalising two features would be some sqrt(2 D) apart, and in the
    weights exp(-d^2) of the Jaccard distance each sample would have itself alone.

    The means are those of `camera_offsets`. The deviation over all images, less those means, takes the place
    of a camera's own where it has fewer than `MIN_SCALED_IMAGES` images, or its deviation is 0 but for the
    rounding of float32. A value whose deviation is 0 in all cameras becomes 0. A feature without direction
    stays 0.

    Args:
        values: [N, D] features, float32 or float64.
        camera_ids: [N] int64.

    Returns:
        [N, D] of the same type. Memory: as much as the features, and 24 bytes for each camera and value.
    """
    offsets, groups = camera_offsets(values, camera_ids)
    sizes = np.bincount(groups)
    sums, squares = np.zeros_like(offsets), np.zeros_like(offsets)
    _group_deviations(values, offsets, groups, sums, squares)
    overall = np.sqrt(squares.sum(axis=0) / len(values))
    # An offset may be the mean of all images: the camera's own deviation is about its own mean.
    means = sums / sizes[:, None]
    deviations = np.sqrt(np.maximum(squares / sizes[:, None] - means**2, 0))
    rounding = np.abs(offsets) * 2.0**-23
    too_few = (sizes < MIN_SCALED_IMAGES)[:, None]
    deviations = np.where(too_few | (deviations <= rounding), overall, deviations)
    factors = np.divide(1, deviations, out=np.zeros_like(deviations), where=deviations > rounding)
    out = np.empty(values.shape, dtype=values.dtype)

    def work(block: tuple[int, int]) -> None:
        _write_scaled(*block, values, offsets, factors, groups, out)

    run_blocks(row_blocks(len(values), _ROW_BLOCK), lambda: work)
    return out


@compiled(error_model="numpy")
def _group_deviations(values, offsets, groups, sums, squares):  # type: ignore[no-untyped-def]
    for row in range(len(values)):
        x, group = values[row], groups[row]
        for d in range(values.shape[1]):
            centred = np.float64(x[d]) - offsets[group, d]
            sums[group, d] += centred
            squares[group, d] += centred * centred


@compiled(error_model="numpy")
def _write_scaled(start, stop, values, offsets, factors, groups, out):  # type: ignore[no-untyped-def]
    for row in range(start, stop):
        x, shift, factor, total = values[row], offsets[groups[row]], factors[groups[row]], 0.0
        for d in range(values.shape[1]):
            scaled = (np.float64(x[d]) - shift[d]) * factor[d]
            total += scaled * scaled
        length = np.sqrt(total) if total > 0 else 1.0
        for d in range(values.shape[1]):
            out[row, d] = (np.float64(x[d]) - shift[d]) * factor[d] / length


@dataclass(frozen=True)
class FeatureRows:
    """Features [N, D] with an offset for each group of rows.

    Attributes:
        values: [N, D] float32 or float64 in C order, which may be a memory-mapped file.
        offsets: [G, D] float64 subtracted from the rows of each group; one row of zeros for none.
        groups: [N] int64, the group of each row.
        on_device: the same values as a tensor [N, D] on the device that is to multiply; None for the
            processor. Single pairs are settled on the processor wherever the products are made, because a
            distance must have one value on all devices, to the last bit.
    """

    values: np.ndarray
    offsets: np.ndarray
    groups: np.ndarray
    on_device: torch.Tensor | None = None

    @classmethod
    def plain(cls, values: np.ndarray, on_device: torch.Tensor | None = None) -> FeatureRows:
        """Return features as they are."""
        groups = np.zeros(len(values), dtype=np.int64)
        return cls(values, np.zeros((1, values.shape[1])), groups, on_device)

    @classmethod
    def centred_by_camera(
        cls, values: np.ndarray, camera_ids: np.ndarray, on_device: torch.Tensor | None = None
    ) -> FeatureRows:
        """Return features with each camera's mean subtracted; see `camera_offsets`."""
        return cls(values, *camera_offsets(values, camera_ids), on_device)

    @classmethod
    def scaled_by_camera(
        cls, values: np.ndarray, camera_ids: np.ndarray, on_device: torch.Tensor | None = None
    ) -> FeatureRows:
        """Return features centred and scaled by camera, which are a copy; see `scaled_by_camera`."""
        scaled = scaled_by_camera(values, camera_ids)
        moved = None if on_device is None else torch.from_numpy(scaled).to(on_device.device)
        return cls.plain(scaled, moved)

    @classmethod
    def prepared(
        cls,
        values: np.ndarray,
        camera_ids: np.ndarray | None,
        centering: bool,
        scaling: bool,
        on_device: torch.Tensor | None = None,
    ) -> FeatureRows:
        """Return features as the settings ask for them; as they are where cameras are unknown."""
        if camera_ids is None or not centering:
            return cls.plain(values, on_device)
        make = cls.scaled_by_camera if scaling else cls.centred_by_camera
        return make(values, camera_ids, on_device)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def dimension(self) -> int:
        """D."""
        return int(self.values.shape[1])

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What the compiled kernels take: values, offsets and groups."""
        return self.values, self.offsets, self.groups

    def rows(self, members: np.ndarray) -> np.ndarray:
        """Return the rows of samples [M], offsets subtracted: [M, D] float64."""
        return self.values[members] - self.offsets[self.groups[members]]

    def mean(self) -> np.ndarray:
        """Return the float64 mean [D] of all rows, offsets subtracted."""
        means, sizes = _group_means(self.values, self.groups, len(self.offsets))
        return sizes @ (means - self.offsets) / len(self)

    def squared_norms(self, origin: np.ndarray) -> np.ndarray:
        """Return the squared norms [N] float64 of the rows less `origin` [D]."""
        out = np.empty(len(self))

        def work(block: tuple[int, int]) -> None:
            _squared_norms(*self.arrays, origin, *block, out)

        run_blocks(row_blocks(len(self), _ROW_BLOCK), lambda: work)
        return out

    def squared_distances(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return squared Euclidean distances of pairs from their differences; see `squared_distance`.

        Args:
            first: [P] integers, rows.
            second: [P] integers, rows.

        Returns:
            [P] float64.
        """
        out = np.empty(len(first))

        def work(block: tuple[int, int]) -> None:
            part = slice(*block)
            _squared_distances(*self.arrays, first[part], second[part], out[part])

        run_blocks(row_blocks(len(first), _PAIR_BLOCK), lambda: work)
        return out
