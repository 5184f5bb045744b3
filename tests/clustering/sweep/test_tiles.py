"""Products of tiles: how far they are from the truth, and that a sweep meets each pair once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import Lock

import numpy as np
import pytest
import torch
from clustering_cases import KINDS, make_case, rows_on, threads, tiny_blocks
from hypothesis import given, settings
from hypothesis import strategies as st

from nplp.clustering.sweep import tiles
from nplp.clustering.sweep.features import FeatureRows
from nplp.clustering.sweep.parallel import Progress
from nplp.clustering.sweep.tiles import (
    Product,
    Tile,
    TileSource,
    half_precision_pays,
    sweep,
)

SHAPES = [(1, 1), (1, 5), (5, 5), (7, 11), (3, 64), (64, 64), (1024, 1024)]
DEVICES = [None, torch.device("cpu")]
PLACES = [(False, None), (True, None), (False, DEVICES[1])]
"""Whether products are made in bfloat16, and the device that makes them."""


@contextmanager
def shaped(rows: int, columns: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "_TILE_ROWS", rows)
        patch.setattr(tiles, "_TILE_COLUMNS", columns)
        patch.setattr(tiles, "_MIN_ROWS", rows)
        patch.setattr(tiles, "_DEVICE_TILE", columns)
        yield


@st.composite
def rows_of_features(draw: st.DrawFn) -> FeatureRows:
    case = make_case(
        seed=draw(st.integers(0, 2**32 - 1)),
        count=draw(st.integers(2, 40)),
        dimension=draw(st.sampled_from([1, 2, 3, 8, 65, 300, 700])),
        cameras=draw(st.integers(1, 4)),
        kind=draw(st.sampled_from(sorted(KINDS))),
        offset=draw(st.sampled_from([0.0, 1.0, 1e3, -1e6])),
        scale=draw(st.sampled_from([1e-3, 1.0, 1e3])),
    )
    values = case.features.astype(draw(st.sampled_from([np.float32, np.float64])))
    if draw(st.booleans()):
        return FeatureRows.centred_by_camera(values, case.camera_ids)
    return FeatureRows.plain(values)


def all_products(source: TileSource, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the products [R, C] of samples that a rectangular sweep gives."""
    result = np.full((len(rows), len(columns)), np.nan)

    def visit(tile: Tile, product: Product) -> None:
        result[tile.row : tile.row_stop, tile.column : tile.column_stop] = np.asarray(product)

    sweep(source, rows, columns, lambda: visit, Progress(), "")
    return result


def error_and_bound(features: FeatureRows, half: bool = False) -> tuple[np.ndarray, ...]:
    """Return the errors |n_i + n_j - 2 p - d^2| [N, N] of the products and what bounds them."""
    source = TileSource(features, half)
    everything = np.arange(len(features))
    product = all_products(source, everything, everything)
    first, second = np.indices(product.shape).reshape(2, -1)
    squared = features.squared_distances(first, second).reshape(product.shape) * source.scale**2
    norms = source.norms[:, None] + source.norms
    return np.abs(norms - 2 * product - squared), source.slope * norms + source.floor


@given(rows_of_features(), st.sampled_from(SHAPES), st.sampled_from(PLACES))
@settings(max_examples=300, deadline=None)
def test_products_are_within_their_bound(
    features: FeatureRows, shape: tuple[int, int], place: tuple[bool, torch.device | None]
) -> None:
    half, device = place
    if device is not None:
        features = replace(features, on_device=torch.from_numpy(features.values).to(device))
    with shaped(*shape):
        error, bound = error_and_bound(features, half)
    assert (error <= bound).all()


@pytest.mark.parametrize(("half", "least", "most"), [(False, 1e-8, 4e-5), (True, 1e-4, 0.0125)])
def test_bound_is_of_the_order_of_the_error(half: bool, least: float, most: float) -> None:
    features = np.random.default_rng(0).normal(size=(200, 500)) + 30
    source = TileSource(FeatureRows.plain(features), half)
    error, _ = error_and_bound(source.features, half)
    assert least < error.max()
    assert source.slope < most
    assert source.floor < 1e-9


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_scaled_norms_are_at_most_1_and_more_than_a_quarter(scale: float) -> None:
    features = scale * np.random.default_rng(0).normal(size=(50, 9)) + 1e3
    source = TileSource(FeatureRows.plain(features))
    assert 0.25 < source.norms.max() <= 1
    assert np.log2(source.scale).is_integer()
    expected = ((features - features.mean(axis=0)) ** 2).sum(axis=1) * source.scale**2
    np.testing.assert_allclose(source.norms, expected, rtol=1e-9)


def test_bound_covers_what_camera_centring_rounds_off() -> None:
    cameras = np.repeat([0, 1], 20)
    features = 1e-6 * np.random.default_rng(0).normal(size=(40, 8)) + 1e6 * (cameras[:, None] + 0.1)
    rows = FeatureRows.centred_by_camera(features, cameras)
    error, bound = error_and_bound(rows)
    assert (error <= bound).all()
    # Not by the part that is relative to the rows.
    source = TileSource(rows)
    assert (error > source.slope * (source.norms[:, None] + source.norms)).any()
    assert source.floor < 0.1


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_equal_rows_have_no_error_to_speak_of(offset: float) -> None:
    error, bound = error_and_bound(FeatureRows.plain(np.full((30, 5), offset)))
    assert (error == 0).all()
    assert bound.max() < 1e-30 or offset


class Counted:
    """Counts how often each pair is met, and checks its product."""

    def __init__(self, source: TileSource, rows: np.ndarray, columns: np.ndarray, symmetric: bool) -> None:
        self.times = np.zeros((len(rows), len(columns)), dtype=int)
        self.visitors = 0
        self._lock = Lock()
        self._symmetric = symmetric
        self._expected = all_products(source, rows, columns)

    def visitor(self) -> Callable[[Tile, Product], None]:
        with self._lock:
            self.visitors += 1
        return self._visit

    def _visit(self, tile: Tile, product: Product) -> None:
        part = (slice(tile.row, tile.row_stop), slice(tile.column, tile.column_stop))
        assert tile.on_diagonal == (self._symmetric and tile.row == tile.column)
        np.testing.assert_allclose(np.asarray(product), self._expected[part], atol=1e-5)
        met = np.ones(product.shape, dtype=int)
        with self._lock:
            self.times[part] += np.triu(met, 1) if tile.on_diagonal else met


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("number", [1, 2, 4])
@pytest.mark.parametrize("device", DEVICES)
def test_symmetric_sweep_meets_each_pair_once(
    shape: tuple[int, int], number: int, device: torch.device | None
) -> None:
    rng = np.random.default_rng(1)
    source = TileSource(rows_on(device, rng.normal(size=(70, 6))))
    for members in (np.arange(70), rng.permutation(70)[:33], np.array([4]), np.array([], dtype=np.int64)):
        counted = Counted(source, members, members, symmetric=True)
        with shaped(*shape), threads(number):
            sweep(source, members, None, counted.visitor, Progress(), "")
        np.testing.assert_array_equal(counted.times, np.triu(np.ones_like(counted.times), 1))
        assert counted.visitors <= number


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("device", DEVICES)
def test_rectangular_sweep_meets_each_pair_once(
    shape: tuple[int, int], number: int, device: torch.device | None
) -> None:
    rng = np.random.default_rng(2)
    source = TileSource(rows_on(device, rng.normal(size=(60, 6))))
    chosen = rng.permutation(60)
    for rows, columns in ((chosen[:23], chosen[23:]), (chosen[:1], chosen), (chosen[:40], chosen[5:6])):
        counted = Counted(source, rows, columns, symmetric=False)
        with shaped(*shape), threads(number):
            sweep(source, rows, columns, counted.visitor, Progress(), "")
        np.testing.assert_array_equal(counted.times, 1)


class Bar(Progress):
    """Remembers how far a step came."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[list[object]] = []

    @contextmanager
    def step(self, name: str, total: int) -> Iterator[Callable[[int], object]]:
        moved: list[int] = []
        yield moved.append
        self.steps.append([name, total, sum(moved)])


@pytest.mark.parametrize("columns", [None, np.arange(20, 50)])
def test_bar_of_a_sweep_comes_to_its_end(columns: np.ndarray | None) -> None:
    source, bar = TileSource(FeatureRows.plain(np.random.default_rng(3).normal(size=(50, 2)))), Bar()
    with tiny_blocks():
        sweep(source, np.arange(20), columns, lambda: lambda tile, product: None, bar, "pairs")
    [[name, total, moved]] = bar.steps
    assert name == "pairs"
    assert moved == total == (600 if columns is not None else total)
    assert 20 * 19 // 2 <= total <= 20 * 30


@pytest.mark.parametrize(("dimension", "device"), [(63, None), (64, torch.device("cpu")), (64, None)])
@pytest.mark.parametrize("supported", [True, False, None])
def test_half_precision_pays_on_processors_with_tiles_and_for_long_rows(
    monkeypatch: pytest.MonkeyPatch, supported: bool | None, dimension: int, device: torch.device | None
) -> None:
    name = "_is_amx_tile_supported"
    if supported is None:
        monkeypatch.delattr(torch.cpu, name, raising=False)
    else:
        monkeypatch.setattr(torch.cpu, name, lambda: supported, raising=False)
    rows = rows_on(device, np.zeros((2, dimension)))
    assert half_precision_pays(rows) == (supported is True and dimension == 64 and device is None)


def test_bits_are_rounded_as_torch_rounds() -> None:
    rows = np.random.default_rng(0).normal(size=(60, 9)) * 10.0 ** np.arange(-6, 3)
    rows[:2] = [[0.0] * 9, [1 + 2.0**-8] * 9]
    features, members = FeatureRows.plain(rows), np.arange(60)
    source = TileSource(features, half=True)
    expected = source.load(members, torch.empty(60, 9)).bfloat16()
    assert torch.equal(source.load(members, torch.empty(60, 9, dtype=torch.bfloat16)), expected)


def test_precision_that_the_caller_allows_is_given_back() -> None:
    rows = FeatureRows.plain(np.random.default_rng(0).normal(size=(9, 4)))
    before = torch.get_float32_matmul_precision()
    for allowed in ("medium", "high", "highest"):
        torch.set_float32_matmul_precision(allowed)
        try:
            for half in (False, True):
                all_products(TileSource(rows, half), np.arange(9), np.arange(9))
                assert torch.get_float32_matmul_precision() == allowed
        finally:
            torch.set_float32_matmul_precision(before)
