"""The order of a sweep by camera, and what it says of tiles, against the cameras of every pair."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nplp.clustering.sweep import candidates, neighbours
from nplp.clustering.sweep.features import FeatureRows
from nplp.clustering.sweep.groups import Groups
from nplp.clustering.sweep.tiles import Tile

CAMERAS = st.lists(st.integers(-3, 3), min_size=1, max_size=30).map(np.array)


@given(CAMERAS)
def test_a_camera_is_a_range_in_the_samples_order(cameras: np.ndarray) -> None:
    groups = Groups.by_camera(cameras)
    assert groups.samples.tolist() == sorted(range(len(cameras)), key=lambda i: (cameras[i], i))
    for place, sample in enumerate(groups.samples):
        same = np.flatnonzero(cameras == cameras[sample])
        np.testing.assert_array_equal(groups.samples[groups.starts[place] : groups.stops[place]], same)


@given(CAMERAS, st.data())
def test_what_a_tile_is_said_to_hold_is_true_of_its_pairs(cameras: np.ndarray, data: st.DataObject) -> None:
    groups, count = Groups.by_camera(cameras), len(cameras)
    bounds = []
    for _ in range(2):
        start = data.draw(st.integers(0, count - 1))
        bounds += [start, data.draw(st.integers(start + 1, count))]
    own = cameras[groups.samples]
    equal = own[bounds[0] : bounds[1], None] == own[bounds[2] : bounds[3]]
    expected = True if equal.all() else None if equal.any() else False
    assert groups.same(Tile(*bounds, False)) is expected


def test_samples_without_cameras_are_one_group_in_their_order() -> None:
    groups = Groups.single(4)
    assert [part.tolist() for part in groups.arrays] == [[0, 1, 2, 3], [0, 0, 0, 0], [4, 4, 4, 4]]
    assert groups.same(Tile(0, 2, 2, 4, False)) is True


def test_a_tile_of_one_camera_or_of_two_is_read_for_one_list(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    offer_tile = candidates._offer_tile

    def recorded(*args: object) -> None:
        read.append((args[1:3], args[7]))
        offer_tile(*args)

    monkeypatch.setattr(candidates, "_offer_tile", recorded)
    monkeypatch.setattr("nplp.clustering.sweep.tiles._TILE_ROWS", 128)
    monkeypatch.setattr("nplp.clustering.sweep.tiles._TILE_COLUMNS", 128)
    features = np.random.default_rng(0).normal(size=(512, 8))
    neighbours.nearest_by_camera(FeatureRows.plain(features), np.arange(512) % 4, 3, 3)
    assert len(read) == len(set(read)) == len({place for place, _ in read})
    assert {inside for _, inside in read} == {True, False}
