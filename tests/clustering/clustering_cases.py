"""Random inputs of the pseudo-label stage, mixed in size, layout and degeneracy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from nplp.clustering import PseudoLabels, jaccard, reciprocal
from nplp.clustering.estimate import _run_stages
from nplp.clustering.settings import Settings
from nplp.clustering.sweep import (
    FeatureRows,
    Progress,
    candidates,
    euclidean,
    euclidean_tiles,
    features,
    pairs,
    smallest,
    tiles,
)


@dataclass(frozen=True)
class Case:
    """Features [N, D] and camera ids [N]."""

    features: np.ndarray
    camera_ids: np.ndarray


def blobs(rng: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    centres = 3 * rng.normal(size=(max(1, count // 8), dimension))
    return centres[rng.integers(len(centres), size=count)] + 0.3 * rng.normal(size=(count, dimension))


def grid(rng: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    return rng.integers(0, 4, size=(count, dimension)).astype(float)


def duplicates(rng: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    x = rng.normal(size=(max(1, count // 3), dimension))
    return x[rng.integers(len(x), size=count)]


def uniform(rng: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    return rng.random(size=(count, dimension))


def equal(rng: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    return np.ones((count, dimension))


def far_groups(rng: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    """Two tight groups whose distance is ten thousand times their size."""
    return 1e-2 * rng.normal(size=(count, dimension)) + 100 * rng.integers(2, size=(count, 1))


def near_duplicates(rng: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    return duplicates(rng, count, dimension) + 1e-4 * rng.normal(size=(count, dimension))


def mixed_norms(rng: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    x = blobs(rng, count, dimension)
    return x / np.linalg.norm(x, axis=1, keepdims=True) * 10 ** rng.uniform(-3, 3, size=(count, 1))


def one_cluster(rng: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    """One cluster and, about a fifth of the samples, outliers."""
    spread = np.where(rng.random(size=(count, 1)) < 0.2, 5.0, 0.2)
    return spread * rng.normal(size=(count, dimension))


def unit_norm(rng: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    x = blobs(rng, count, dimension)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def mirrored(rng: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    """Clusters and their mirror images, which differ in no distance and so in no score."""
    x = blobs(rng, (count + 1) // 2, dimension)
    return rng.permutation(np.concatenate([x, -x]))[:count]


DRAWN = (
    *(blobs, grid, duplicates, uniform, equal, far_groups),
    *(near_duplicates, mixed_norms, one_cluster, unit_norm, mirrored),
)
KINDS: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    kind.__name__: kind for kind in DRAWN
}
USUAL_KINDS = ("blobs", "grid", "duplicates", "uniform", "equal")


def make_case(
    seed: int, count: int, dimension: int, cameras: int, kind: str, offset: float = 0.0, scale: float = 1.0
) -> Case:
    rng = np.random.default_rng(seed)
    x = KINDS[kind](rng, count, dimension)
    # Cameras of very different sizes, the first of them the largest.
    camera_ids = np.minimum(rng.geometric(0.4, size=count) - 1, cameras - 1)
    return Case((scale * x + offset).astype(np.float32), camera_ids.astype(np.int64))


@st.composite
def cases(draw: st.DrawFn, smallest: int = 2, largest: int = 60) -> Case:
    return make_case(
        seed=draw(st.integers(0, 2**32 - 1)),
        count=draw(st.integers(smallest, largest)),
        dimension=draw(st.sampled_from([1, 2, 3, 8, 65])),
        cameras=draw(st.integers(1, 6)),
        kind=draw(st.sampled_from(USUAL_KINDS)),
        offset=draw(st.sampled_from([0.0, 0.0, 1e3])),
        scale=draw(st.sampled_from([1.0, 1.0, 1e-3, 1e3])),
    )


BLOCKS = {
    tiles: {"_TILE_ROWS": 7, "_TILE_COLUMNS": 11, "_MIN_ROWS": 3, "_DEVICE_TILE": 8},
    features: {"_PAIR_BLOCK": 5, "_ROW_BLOCK": 6},
    candidates: {"_CANDIDATES": 2, "_MIN_CANDIDATES": 2, "_SEGMENT": 4},
    reciprocal: {"_BLOCK_ENTRIES": 97, "_MOST_ROWS": 5},
    jaccard: {"_BLOCK_ROWS": 5, "_MIN_BUFFER": 1},
    pairs: {"_MIN_PAIRS": 13, "_PAIRS_PER_SAMPLE": 0},
    smallest: {"_MIN_VALUES": 40, "_VALUES_PER_SAMPLE": 0, "_BINS": 5},
    euclidean: {"_SAMPLED_PAIRS": 60, "_SMALL_CLUSTER": 4},
    euclidean_tiles: {"_SETTLED_PAIRS": 3},
}


@contextmanager
def tiny_blocks(active: bool = True) -> Iterator[None]:
    """Shrink every block of the stage, so that small inputs are cut into many of them."""
    with pytest.MonkeyPatch.context() as patch:
        for module, sizes in BLOCKS.items() if active else ():
            for name, size in sizes.items():
                patch.setattr(module, name, size)
        yield


def rows_on(device: torch.device | None, features: np.ndarray) -> FeatureRows:
    """Return features [N, D] that a device multiplies; None stands for the processor's own kernels."""
    return FeatureRows.plain(features, None if device is None else torch.from_numpy(features).to(device))


def labels_on(device: torch.device | None, case: Case, settings: Settings) -> PseudoLabels:
    """Return the labels of a case whose features are on a device; None stands for the processor."""
    tensor = None if device is None else torch.from_numpy(case.features).to(device)
    treated = settings.camera_centering, settings.camera_scaling
    rows = FeatureRows.prepared(case.features, case.camera_ids, *treated, tensor)
    return _run_stages(settings, rows, case.camera_ids, Progress())


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Give the stage a number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
