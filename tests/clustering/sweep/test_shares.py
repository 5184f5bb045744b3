"""How the parts of a pass are divided, and how lists of neighbours become one."""

from __future__ import annotations

import numpy as np
import pytest
from shared_workers import Meeting, ThreadShares, by_workers

from nplp.clustering.sweep import tiles
from nplp.clustering.sweep.merging import merged_nearest
from nplp.clustering.sweep.shares import ALONE, current_shares, own_part, own_range, shared_among


def workers(count: int) -> list[ThreadShares]:
    meeting = Meeting(count)
    return [ThreadShares(meeting, number) for number in range(count)]


@pytest.mark.parametrize("count", [1, 2, 3, 9])
@pytest.mark.parametrize("costs", [[], [0, 0], [5], [1] * 7, [40, 1, 1, 1, 0, 3, 20, 2], [0, 0, 6, 0]])
def test_each_part_is_done_once(count, costs):
    parts = list(range(len(costs)))
    done = [parts[own_part(shares, costs)] for shares in workers(count)]
    assert [part for own in done for part in own] == parts
    # No worker has more than its share and one part.
    assert all(sum(costs[part] for part in own) <= sum(costs) / count + max(costs) for own in done if own)


@pytest.mark.parametrize("length", [0, 1, 5, 12])
def test_equal_parts_are_those_that_are_swapped(length):
    values = np.arange(length)

    def ranges() -> tuple[np.ndarray, np.ndarray]:
        shares = current_shares()
        return shares.swapped(values)[0], values[own_range(shares, length)]

    for swapped, own in by_workers(3, ranges):
        np.testing.assert_array_equal(swapped, own)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_the_tiles_of_all_workers_are_those_of_one(count, symmetric):
    stripes = tiles.row_blocks(230, 64)

    def tiles_of(stripe: tuple[int, int]) -> list[tiles.Tile]:
        return list(tiles._tiles(stripe, 230, 50, symmetric))

    everything = [tile for stripe in stripes for tile in tiles_of(stripe)]
    cells = [sum(tile.cells for tile in tiles_of(stripe)) for stripe in stripes]
    done = []
    for shares in workers(count):
        division = tiles._Division(shares, cells)
        own = [
            tile for number in division.stripes for tile in division.own(number, tiles_of(stripes[number]))
        ]
        done += own
        most = sum(cells) / count + max(tile.cells for tile in everything)
        assert sum(tile.cells for tile in own) <= most
    assert done == everything


def test_a_process_is_alone_outside_of_the_block():
    (shares,) = workers(1)

    def fail() -> None:
        with shared_among(shares):
            assert current_shares() is shares
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert current_shares() is ALONE


@pytest.mark.parametrize("count", [2, 3, 6])
@pytest.mark.parametrize("k", [1, 3, 8])
def test_merged_lists_are_the_nearest_of_all_pairs(count, k):
    """Each pair is some worker's; each sample is its own neighbour for all of them; many distances tie."""
    rng = np.random.default_rng(count)
    size = 17
    squared = rng.integers(0, 4, size=(size, size)).astype(float)
    squared = np.minimum(squared, squared.T)
    np.fill_diagonal(squared, 0)
    whose = rng.integers(count, size=(size, size))
    expected = [sorted(range(size), key=lambda j, i=i: (squared[i, j], j))[:k] for i in range(size)]

    def merged() -> np.ndarray:
        shares = current_shares()
        near, far = np.full((size, k), -1, dtype=np.int32), np.full((size, k), np.inf)
        for i in range(size):
            mine = [j for j in range(size) if j == i or whose[i, j] == shares.number]
            for place, j in enumerate(sorted(mine, key=lambda j, i=i: (squared[i, j], j))[:k]):
                near[i, place], far[i, place] = j, squared[i, j]
        return merged_nearest(near, far, shares)

    for found in by_workers(count, merged):
        assert found.tolist() == expected


def test_lists_without_neighbours_stay_so():
    nothing = np.full((4, 2), -1, dtype=np.int32), np.full((4, 2), np.inf)
    for found in by_workers(2, lambda: merged_nearest(*nothing, current_shares())):
        assert (found == -1).all()
