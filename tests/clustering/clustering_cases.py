"""Random inputs of the pseudo-label stage, mixed in size, layout and degeneracy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import strategies as st

from nplp.clustering import dbscan, euclidean, features, jaccard, neighbours

KINDS = ("blobs", "grid", "duplicates", "uniform", "equal")


@dataclass(frozen=True)
class Case:
    """Features [N, D] and camera ids [N]."""

    features: np.ndarray
    camera_ids: np.ndarray


def make_case(
    seed: int, count: int, dimension: int, cameras: int, kind: str, offset: float = 0.0, scale: float = 1.0
) -> Case:
    rng = np.random.default_rng(seed)
    if kind == "blobs":
        centres = 3 * rng.normal(size=(max(1, count // 8), dimension))
        x = centres[rng.integers(len(centres), size=count)] + 0.3 * rng.normal(size=(count, dimension))
    elif kind == "grid":
        x = rng.integers(0, 4, size=(count, dimension)).astype(float)
    elif kind == "duplicates":
        x = rng.normal(size=(max(1, count // 3), dimension))
        x = x[rng.integers(len(x), size=count)]
    elif kind == "equal":
        x = np.ones((count, dimension))
    else:
        x = rng.random(size=(count, dimension))
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
        kind=draw(st.sampled_from(KINDS)),
        offset=draw(st.sampled_from([0.0, 0.0, 1e3])),
        scale=draw(st.sampled_from([1.0, 1.0, 1e-3, 1e3])),
    )


@contextmanager
def tiny_blocks(active: bool = True) -> Iterator[None]:
    """Shrink every block of the stage, so that small inputs are cut into many of them."""
    with pytest.MonkeyPatch.context() as patch:
        if active:
            patch.setattr(euclidean, "_TILE_ROWS", 7)
            patch.setattr(euclidean, "_TILE_COLUMNS", 11)
            patch.setattr(features, "_BLOCK_VALUES", 5)
            patch.setattr(neighbours, "_BLOCK_VALUES", 97)
            patch.setattr(jaccard, "_BLOCK_VALUES", 97)
            patch.setattr(dbscan, "_MIN_EDGE_BUDGET", 13)
            patch.setattr(dbscan, "_EDGES_PER_SAMPLE", 0)
        yield
