"""A tile for which memory does not suffice is read in pieces, whatever it is that does not fit."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import pytest
import torch
from clustering_cases import Case, labels_on, make_case, tiny_blocks
from clustering_faults import Faults, failing

from nplp.clustering import PseudoLabels
from nplp.clustering.settings import Settings
from nplp.clustering.sweep import smallest
from nplp.clustering.sweep.pairs import HeldPairs
from nplp.clustering.sweep.smallest import Bracket, MeanOfSmallest, clipped_mean

Stage = Callable[[Case], PseudoLabels]

DEVICE = torch.device("cpu")
"""The kernels for devices, on the one device that every machine has."""


def stage(distance: str, device: torch.device | None) -> Stage:
    settings = Settings(
        alpha=0.02, beta=0.5, min_samples=3, noisy_fraction=0.4, correct=True, distance=distance,
        assessment_distance=None, k1=8, k2=4, k1_intra=4, k1_inter=8, k2_intra=2, k2_inter=3,
        camera_centering=True, camera_scaling=False, dissolved="drop",
        reclustered_outliers="rejoin", epsilon=None, giant_share=0.5, equal_scores="order",
    )  # fmt: skip
    return lambda case: labels_on(device, case, settings)


def run(stage: Stage, case: Case, faults: Faults) -> PseudoLabels:
    with tiny_blocks(), pytest.MonkeyPatch.context() as patch:
        # No tile of a single pair, which cannot be read in pieces.
        for name in ("_DEVICE_TILE", "_TILE_ROWS", "_MIN_ROWS"):
            patch.setattr(f"nplp.clustering.sweep.tiles.{name}", 16)
        patch.setattr("nplp.clustering.sweep.euclidean_tiles._SETTLED_PAIRS", 40)
        with failing(faults):
            return stage(case)


@pytest.fixture(autouse=True, scope="module")
def compiled() -> None:
    """Compile every kernel before numpy is replaced, which they would find in its place."""
    case = make_case(3, count=34, dimension=6, cameras=3, kind="blobs")
    for distance in ("euclidean", "jaccard", "camera_jaccard"):
        for device in (None, DEVICE):
            with tiny_blocks():
                stage(distance, device)(case)


def assert_same(found: PseudoLabels, expected: PseudoLabels) -> None:
    for name, value in vars(expected).items():
        if name == "self_assessment":
            # Sums are made in another order, and a pair that counts twice makes a hundred times as much.
            np.testing.assert_allclose(found.self_assessment, value, atol=2e-6)
        elif name in ("epsilon_e", "epsilon_c", "literal_epsilon"):
            assert getattr(found, name) == pytest.approx(value, rel=1e-6)
        else:
            np.testing.assert_array_equal(getattr(found, name), value, err_msg=name)


@pytest.mark.parametrize("runs", [12, pytest.param(10**6, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    ("distance", "device"),
    [("euclidean", None), ("euclidean", DEVICE), ("jaccard", DEVICE), ("camera_jaccard", DEVICE)],
)
def test_each_allocation_of_a_tile_may_fail(distance: str, device: torch.device | None, runs: int) -> None:
    case = make_case(3, count=34, dimension=6, cameras=3, kind="blobs")
    chosen = stage(distance, device)
    counted = Faults()
    run(chosen, case, Faults())
    expected = run(chosen, case, counted)
    assert counted.seen > 60
    places = range(1, counted.seen + 1, max(1, counted.seen // runs))
    errors = 0
    for at in places:
        faults = Faults(at=at)
        try:
            assert_same(run(chosen, case, faults), expected)
        except (MemoryError, torch.cuda.OutOfMemoryError):
            # A block of one pair has no smaller one, and then nothing is said.
            errors += 1
        assert faults.failed == 1, at
    assert errors < len(places) / 2


@pytest.mark.parametrize("distance", ["jaccard", "camera_jaccard", "euclidean"])
@pytest.mark.parametrize("most", [pytest.param(9, marks=pytest.mark.long), 40])
def test_a_device_without_room_for_a_tile_reads_small_pieces(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, distance: str, most: int
) -> None:
    monkeypatch.setattr(logging.getLogger("nplp"), "propagate", True)
    case = make_case(3, count=34, dimension=6, cameras=3, kind="blobs")
    chosen = stage(distance, DEVICE)
    expected = run(chosen, case, Faults())
    faults = Faults(most=most)
    with caplog.at_level(logging.WARNING):
        assert_same(run(chosen, case, faults), expected)
    # A sweep learns the size that fits, and says once that it is smaller.
    assert 0 < faults.failed < 100
    lines = [record.message for record in caplog.records if "going on with smaller blocks" in record.message]
    assert 0 < len(lines) < 20


def test_memory_that_never_suffices_is_an_error() -> None:
    case = make_case(3, count=34, dimension=6, cameras=3, kind="blobs")
    with pytest.raises(torch.cuda.OutOfMemoryError):
        run(stage("euclidean", DEVICE), case, Faults(most=0))


def test_values_that_find_no_memory_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smallest, "_MIN_VALUES", 10)
    values = np.linspace(0, 1, 40)
    stream = MeanOfSmallest(15, Bracket(0.2, 0.9), 1.0)
    stream.add(values[::2])
    before = (stream._below, stream._inside, stream._bins.sum(), list(stream._sums))

    def refuse(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(np, "histogram", refuse)
        with pytest.raises(MemoryError):
            stream.add(values[1::2])
    assert (stream._below, stream._inside, stream._bins.sum(), list(stream._sums)) == before


def test_values_that_find_no_memory_to_be_chosen_in_are_all_held(monkeypatch: pytest.MonkeyPatch) -> None:
    values, tries = np.linspace(1, 0, 400), 0

    def refuse(*_: object) -> None:
        nonlocal tries
        tries += 1
        raise MemoryError

    stream = MeanOfSmallest(5, Bracket(0.0, 1.0), 1.0)
    with monkeypatch.context() as patch:
        patch.setattr(np, "concatenate", refuse)
        for block in np.split(values, 100):
            stream.add(block)
    assert sum(map(len, stream._held)) == 400
    # One each time that they are twice as many.
    assert 0 < tries < 8
    assert stream.mean() == clipped_mean(values[-5:].copy())


def test_pairs_that_find_no_memory_are_not_held() -> None:
    class Refusing(np.ndarray):
        def astype(self, *_: object, **__: object) -> np.ndarray:
            raise MemoryError

    held = HeldPairs(5, 1.0)
    held.add(np.zeros(3, dtype=int).view(Refusing), np.ones(3, dtype=int), np.zeros(3))
    assert held.overflown
    assert held.blocks() == []
