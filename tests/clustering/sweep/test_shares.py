"""How the parts of a pass are divided, and that what the workers found becomes one."""

from __future__ import annotations

import numpy as np
import pytest
from clustering_cases import make_case, threads, tiny_blocks
from shared_workers import Meeting, ThreadShares, by_workers

from nplp.clustering.sweep import (
    FeatureRows,
    nearest_and_farthest,
    nearest_by_camera,
    nearest_neighbours,
    tiles,
)
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
@pytest.mark.parametrize("kind", ["grid", "duplicates", "uniform", "equal"])
def test_neighbours_of_shared_pairs_are_those_of_one_process(count, kind):
    """Candidates for a sample are with several workers; many distances tie."""
    case = make_case(1, 83, 3, 4, kind)
    rows = FeatureRows.plain(case.features)

    def found() -> tuple[np.ndarray, ...]:
        near, far = nearest_and_farthest(rows, 7)
        return nearest_neighbours(rows, 9), *nearest_by_camera(rows, case.camera_ids, 3, 8), near, far

    with threads(1), tiny_blocks():
        alone = found()
        for shared in by_workers(count, found):
            for one, other in zip(alone, shared, strict=True):
                np.testing.assert_array_equal(other, one, strict=True)


def test_each_worker_makes_its_share_of_the_products(monkeypatch):
    made: dict[int, int] = {}
    product = tiles._ArrayWorker.product

    def counted(self, rows, members):
        number = current_shares().number
        made[number] = made.get(number, 0) + (rows.stop - rows.start) * len(members)
        return product(self, rows, members)

    monkeypatch.setattr(tiles._ArrayWorker, "product", counted)
    rows = FeatureRows.plain(make_case(1, 600, 8, 4, "blobs").features)
    with threads(1):
        nearest_neighbours(rows, 5)
        alone = made.pop(0)
        by_workers(3, lambda: nearest_neighbours(rows, 5))
    assert sorted(made) == [0, 1, 2]
    # On the diagonal some pairs are made twice.
    assert max(made.values()) < 1.3 * alone / 3
