"""Features as the distances see them: read in place, camera-centred if asked, never copied whole.

Shapes: N samples, D dimensions, G groups (cameras) with a common offset, P pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nplp.clustering.compiling import compiled
from nplp.clustering.parallel import row_blocks, run_blocks

__all__ = [
    "MIN_CAMERA_IMAGES",
    "FeatureRows",
    "add_half",
    "camera_offsets",
    "centred_rows",
    "half_rows",
    "split_rows",
    "squared_distance",
]

MIN_CAMERA_IMAGES = 5
"""A camera with fewer images than this keeps the global mean: its own would be mostly noise."""

_PAIR_BLOCK = 1 << 14
_ROW_BLOCK = 1024


@compiled(error_model="numpy", fastmath={"reassoc", "contract"})
def squared_distance(values, offsets, groups, i, j):  # type: ignore[no-untyped-def]
    """Return the squared Euclidean distance of two rows from their differences, in float64.

    This is the reference that near ties are settled by. It is the only code that sums such differences, so
    that a pair has one value wherever it is asked for.
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
def _round_to_half(bits, out):  # type: ignore[no-untyped-def]
    """Write the bits [D] uint16 of bfloat16 numbers, rounded to the nearest even from those of float32."""
    for d in range(len(bits)):
        bit = bits[d]
        out[d] = (bit + np.uint32(0x7FFF) + ((bit >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)


@compiled(error_model="numpy")
def half_rows(values, offsets, groups, origin, scale, members, out):  # type: ignore[no-untyped-def]
    """Write what `centred_rows` does to out [M, D] uint16, as the bits of bfloat16."""
    single = np.empty((1, values.shape[1]), dtype=np.float32)
    bits = single.view(np.uint32)
    for row in range(len(members)):
        centred_rows(values, offsets, groups, origin, scale, members[row : row + 1], single)
        _round_to_half(bits[0], out[row])


@compiled(error_model="numpy")
def split_rows(values, offsets, groups, origin, scale, members, parts, side):  # type: ignore[no-untyped-def]
    """Write what `centred_rows` does as h + l to parts [M, 2, D], uint16 bits of bfloat16: h at `side`."""
    single = np.empty((1, values.shape[1]), dtype=np.float32)
    leading = np.empty_like(single)
    bits, leading_bits = single.view(np.uint32), leading.view(np.uint32)
    for row in range(len(members)):
        centred_rows(values, offsets, groups, origin, scale, members[row : row + 1], single)
        _round_to_half(bits[0], parts[row, side])
        _widen(parts[row, side], leading_bits[0])
        for d in range(values.shape[1]):
            single[0, d] -= leading[0, d]
        _round_to_half(bits[0], parts[row, 1 - side])


@compiled(error_model="numpy")
def _widen(half, bits):  # type: ignore[no-untyped-def]
    """Write the bits [D] uint32 of the float32 numbers that bfloat16 numbers are."""
    for d in range(len(half)):
        bits[d] = np.uint32(half[d]) << np.uint32(16)


@compiled(error_model="numpy")
def add_half(values, half):  # type: ignore[no-untyped-def]
    """Add numbers [R, C], given as the uint16 bits of bfloat16, to values [R, C] float32 in place."""
    single = np.empty((1, values.shape[1]), dtype=np.float32)
    bits = single.view(np.uint32)
    for row in range(len(values)):
        _widen(half[row], bits[0])
        for column in range(values.shape[1]):
            values[row, column] += single[0, column]


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


@dataclass(frozen=True)
class FeatureRows:
    """Features [N, D] with an offset for each group of rows.

    Attributes:
        values: [N, D] float32 or float64 in C order, as given; it may be a memory-mapped file.
        offsets: [G, D] float64 subtracted from the rows of each group; one row of zeros for none.
        groups: [N] int64, the group of each row.
    """

    values: np.ndarray
    offsets: np.ndarray
    groups: np.ndarray

    @classmethod
    def plain(cls, values: np.ndarray) -> FeatureRows:
        """Return features as they are."""
        return cls(values, np.zeros((1, values.shape[1])), np.zeros(len(values), dtype=np.int64))

    @classmethod
    def centred_by_camera(cls, values: np.ndarray, camera_ids: np.ndarray) -> FeatureRows:
        """Return features with each camera's mean subtracted; see `camera_offsets`."""
        return cls(values, *camera_offsets(values, camera_ids))

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
