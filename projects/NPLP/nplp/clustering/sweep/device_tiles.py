"""Reading a tile on a device: tensor operations in place of the compiled kernels of the processor.

Only the pairs that must be settled one by one leave the device. Labels are those of the processor: products
are approximate on any device, and the same differences settle what they leave open.

Shapes: R x C pairs of a tile, P pairs found, k neighbours.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

__all__ = ["Cells", "Findings", "nearest_bounds", "read_tensor", "within_reach"]


class Cells(NamedTuple):
    """The products of a tile with what belongs to its rows and columns.

    Attributes:
        product: [R, C] float32, an array or a tensor.
        row_norms: [R] float32, scaled squared norms.
        column_norms: [C] float32.
        row_groups: [R] int32, cameras.
        column_groups: [C] int32.
        diagonal: whether only cells right of the diagonal count.
    """

    product: Any
    row_norms: np.ndarray
    column_norms: np.ndarray
    row_groups: np.ndarray
    column_groups: np.ndarray
    diagonal: bool


class Findings(NamedTuple):
    """What was read off a tile.

    Attributes:
        first: [P] positions of the rows of pairs that must be settled.
        second: [P] positions of their columns.
        squared: [P] float32, their approximate squared distances.
        below: how many pairs are surely below the bracket.
        total: the sum of their distances.
        sums: [R] and [C] float64, sums of distances by rows and columns; zeros where not asked for.
    """

    first: np.ndarray
    second: np.ndarray
    squared: np.ndarray
    below: int
    total: float
    sums: tuple[np.ndarray, np.ndarray]


def read_tensor(
    cells: Cells, bounds: tuple[float, ...], error: tuple[float, float], summed: bool
) -> Findings:
    """Read products that lie in a tensor.

    Args:
        cells: the tile.
        bounds: of squared distances: up to which pairs of one group are wanted, and pairs of two groups;
            under which the latter need no settling; last the share of the norms under which all do.
        error: slope and floor of `TileSource`.
        summed: whether sums are wanted.
    """
    within, across, low, cancelled = (float(bound) for bound in bounds)
    slope, floor = (float(part) for part in error)
    product, diagonal = cells.product, cells.diagonal
    rows, columns, row_groups, column_groups = (
        torch.from_numpy(part).to(product.device) for part in cells[1:5]
    )
    norms = rows[:, None] + columns
    squared = norms - 2 * product
    sums = (np.zeros(len(rows)), np.zeros(len(columns)))
    if summed:
        distance = squared.clamp_(min=0).sqrt()
        distance = distance.triu_(1) if diagonal else distance
        sums = tuple(distance.sum(dim=dim, dtype=torch.float64).cpu().numpy() for dim in (1, 0))
        del distance
    margin = slope * norms + floor
    crossing = row_groups[:, None] != column_groups
    lost = squared <= cancelled * norms
    # Numbers alone would become of whatever type the caller has made torch's default.
    limit = torch.where(crossing, norms.new_tensor(across), norms.new_tensor(within))
    wanted = (squared <= limit + margin).logical_or_(lost)
    wanted = wanted.triu_(1) if diagonal else wanted
    below, total = 0, 0.0
    if low > 0:
        surely = wanted & crossing & ~lost & (squared < low - margin) & (squared > within + margin)
        below, total = int(surely.sum()), float(squared[surely].sqrt().sum(dtype=torch.float64))
        wanted &= ~surely
    first, second = wanted.nonzero(as_tuple=True)
    approximate = squared[first, second].cpu().numpy()
    return Findings(first.cpu().numpy(), second.cpu().numpy(), approximate, below, total, sums)


def nearest_bounds(
    product: torch.Tensor,
    norms: tuple[np.ndarray, np.ndarray],
    error: tuple[float, float],
    k: int,
    counted: torch.Tensor | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return what the k-th smallest squared distance of each row and column of a tile is at most.

    Args:
        product: [R, C] float32.
        norms: [R] and [C] float32, scaled squared norms.
        error: slope and floor of `TileSource`.
        k: at most R and C, or the bound is infinite.
        counted: [R, C] bool, the cells that count; None for all. With fewer than k the bound is infinite.

    Returns:
        [R] and [C] float32.
    """
    slope, floor = error
    rows, columns = (torch.from_numpy(part).to(product.device) for part in norms)
    upper = (1 + slope) * (rows[:, None] + columns) + floor - 2 * product
    if counted is not None:
        upper = upper.masked_fill_(~counted, torch.inf)
    bounds = []
    for dim, count in ((1, product.shape[1]), (0, product.shape[0])):
        if k > count:
            bounds.append(np.full(product.shape[1 - dim], np.inf, dtype=np.float32))
        else:
            smallest = torch.topk(upper, k, dim=dim, largest=False).values.amax(dim=dim)
            bounds.append((smallest.clamp_(min=0) * (1 + 2.0**-20)).cpu().numpy())
    return bounds[0], bounds[1]


def within_reach(
    product: torch.Tensor,
    lower_norms: tuple[np.ndarray, np.ndarray],
    reach: tuple[np.ndarray, np.ndarray],
    diagonal: bool,
    counted: torch.Tensor | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the pairs of a tile that may be neighbours for their row or their column.

    Args:
        product: [R, C] float32.
        lower_norms: [R] and [C] float32: n less the possible error.
        reach: [R] and [C] float32, squared distances up to which neighbours are looked for.
        diagonal: whether only cells right of the diagonal count.
        counted: [R, C] bool, the cells that count; None for all.

    Returns:
        Positions of rows and columns [P], and what the squared distances [P] float32 are at least.
    """
    rows, columns, row_reach, column_reach = (
        torch.from_numpy(part).to(product.device) for part in (*lower_norms, *reach)
    )
    lower = rows[:, None] + columns - 2 * product
    near = lower <= torch.maximum(row_reach[:, None], column_reach)
    if counted is not None:
        near &= counted
    first, second = (near.triu_(1) if diagonal else near).nonzero(as_tuple=True)
    return first.cpu().numpy(), second.cpu().numpy(), lower[first, second].cpu().numpy()
