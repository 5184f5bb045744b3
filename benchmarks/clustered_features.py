"""Features for the benchmark of the pseudo-label stage: one kind as they come, and the worst cases.

Shapes: N images, D dimensions. A fixed seed gives the same features, but for the rounding of a matrix product
of another machine. Memory: the features, a seventeenth of them for the centres, and some 64 MB.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["CAMERAS", "CLUSTERED", "KINDS", "WORST", "BenchmarkFeatures", "make_features"]

CAMERAS = 6
PAPER_ALPHA = 0.0012
"""The default of `estimate_pseudo_labels`, for features without identities to count pairs of."""

_CHUNK_VALUES = 1 << 22
_IDENTITY_DIMENSIONS = 64
_CAMERA_NORM = 0.35
_IMAGE_NORM = 0.75
_COPIES = 300


@dataclass(frozen=True)
class BenchmarkFeatures:
    """Features with what the benchmark knows of them.

    Attributes:
        features: [N, D] float32 of norm 1.
        camera_ids: [N] int64, 0..5.
        identities: [N] int64; an image of nobody else's has an identity of its own.
        alpha: share of the cross-camera pairs that eq. 4 is to average.
    """

    features: np.ndarray
    camera_ids: np.ndarray
    identities: np.ndarray
    alpha: float


def make_features(kind: str, count: int, dimension: int, seed: int) -> BenchmarkFeatures:
    """Return features [count, dimension] of one of `KINDS`.

    Raises:
        ValueError: if there is no such kind, or fewer than 2 images or 1 dimension are asked for.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if count < 2 or dimension < 1:
        raise ValueError(f"features must be at least 2 x 1, got {count} x {dimension}")
    return KINDS[kind](np.random.default_rng(seed), count, dimension)


def _clustered(rng: np.random.Generator, count: int, dimension: int) -> BenchmarkFeatures:
    """Return identities of 17 images on average, at least 2, seen by cameras that each add their own offset.

    Eq. 4 gets 0.9 / identities: sizes vary, so that this is some three quarters of the true pairs.
    """
    identities = _shuffled_identities(rng, count)
    camera_ids = rng.integers(CAMERAS, size=count)
    features = _images(rng, _centres(rng, int(identities.max()) + 1, dimension), identities, camera_ids)
    return BenchmarkFeatures(features, camera_ids, identities, min(1.0, 0.9 / (int(identities.max()) + 1)))


def _half_outliers(rng: np.random.Generator, count: int, dimension: int) -> BenchmarkFeatures:
    """Return clustered features of which every second image is of nobody else's, far from all others."""
    result = _clustered(rng, count, dimension)
    alone = rng.permutation(count)[: count // 2]
    for start, stop in _chunks(len(alone), dimension):
        result.features[alone[start:stop]] = _directions(rng, stop - start, dimension)
    result.identities[alone] = result.identities.max() + 1 + np.arange(len(alone))
    # Half of the images are left, and with them a quarter of the pairs of one identity.
    return BenchmarkFeatures(result.features, result.camera_ids, result.identities, result.alpha / 4)


def _no_structure(rng: np.random.Generator, count: int, dimension: int) -> BenchmarkFeatures:
    """Return directions drawn uniformly."""
    features = np.empty((count, dimension), dtype=np.float32)
    for start, stop in _chunks(count, dimension):
        features[start:stop] = _directions(rng, stop - start, dimension)
    return BenchmarkFeatures(features, rng.integers(CAMERAS, size=count), np.arange(count), PAPER_ALPHA)


def _identical(rng: np.random.Generator, count: int, dimension: int) -> BenchmarkFeatures:
    """Return one direction, N times."""
    features = np.repeat(_directions(rng, 1, dimension), count, axis=0)
    one = np.zeros(count, dtype=np.int64)
    return BenchmarkFeatures(features, rng.integers(CAMERAS, size=count), one, PAPER_ALPHA)


def _one_cluster(rng: np.random.Generator, count: int, dimension: int) -> BenchmarkFeatures:
    """Return one connected cloud of three dimensions, at the alpha of the clustered features."""
    latent = rng.uniform(-1, 1, size=(count, 3)).astype(np.float32)
    axes = rng.standard_normal((4, dimension), dtype=np.float32) / np.sqrt(np.float32(dimension))
    features = np.empty((count, dimension), dtype=np.float32)
    for start, stop in _chunks(count, dimension):
        np.matmul(latent[start:stop], axes[:3], out=features[start:stop])
        features[start:stop] += 2 * axes[3]
        _normalise(features[start:stop])
    one = np.zeros(count, dtype=np.int64)
    return BenchmarkFeatures(features, rng.integers(CAMERAS, size=count), one, min(1.0, 17 / count))


def _dense_cluster(rng: np.random.Generator, count: int, dimension: int) -> BenchmarkFeatures:
    """Return the same cloud with an alpha of 0.2: tens of millions of pairs averaged and of edges."""
    cloud = _one_cluster(rng, count, dimension)
    return BenchmarkFeatures(cloud.features, cloud.camera_ids, cloud.identities, 0.2)


def _same_camera_copies(rng: np.random.Generator, count: int, dimension: int) -> BenchmarkFeatures:
    """Return some 300 copies of each of a few images, all in the image's camera: half exact, half near.

    All of these pairs are closer than any pair of different cameras, and none of them counts in eq. 4.
    """
    few = _clustered(rng, max(2, count // _COPIES), dimension)
    source = rng.permutation(np.arange(count) % len(few.features))
    deviation = (1e-3 / np.sqrt(dimension) * rng.integers(2, size=(count, 1))).astype(np.float32)
    features = np.empty((count, dimension), dtype=np.float32)
    for start, stop in _chunks(count, dimension):
        rows = features[start:stop]
        rng.standard_normal(dtype=np.float32, out=rows)
        rows *= deviation[start:stop]
        rows += few.features[source[start:stop]]
        _normalise(rows)
    return BenchmarkFeatures(features, few.camera_ids[source], few.identities[source], PAPER_ALPHA)


def _shuffled_identities(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return identities [count] int64 of 2 + Poisson(Gamma) images, 17 on average, in shuffled order."""
    sizes = 2 + rng.poisson(rng.gamma(4, 15 / 4, size=count // 2 + 1))
    number = int(np.searchsorted(np.cumsum(sizes), count)) + 1
    identities = np.repeat(np.arange(number), sizes[:number])[:count]
    # What the count cuts off must not leave an identity with one image.
    identities[-2:] = identities[-2]
    return rng.permutation(identities).astype(np.int64)


def _centres(rng: np.random.Generator, number: int, dimension: int) -> np.ndarray:
    """Return centres [number, dimension] of norm 1 in a space of at most 64 dimensions."""
    inner = min(_IDENTITY_DIMENSIONS, dimension)
    axes = np.linalg.qr(rng.standard_normal((dimension, inner)))[0].T.astype(np.float32)
    return _directions(rng, number, inner) @ axes


def _images(
    rng: np.random.Generator, centres: np.ndarray, identities: np.ndarray, camera_ids: np.ndarray
) -> np.ndarray:
    """Return images [N, D]: centre + camera's offset + own deviation, of a size that varies, normalised."""
    count, dimension = len(identities), centres.shape[1]
    offsets = _directions(rng, CAMERAS, dimension)
    spread = (_IMAGE_NORM * rng.lognormal(0, 0.25, size=count)).astype(np.float32)
    features = np.empty((count, dimension), dtype=np.float32)
    for start, stop in _chunks(count, dimension):
        rows = features[start:stop]
        rng.standard_normal(dtype=np.float32, out=rows)
        rows *= spread[start:stop, None] / np.sqrt(np.float32(dimension))
        rows += centres[identities[start:stop]]
        rows += _CAMERA_NORM * offsets[camera_ids[start:stop]]
        _normalise(rows)
    return features


def _directions(rng: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    """Return uniform directions [count, dimension] float32."""
    rows = rng.standard_normal((count, dimension), dtype=np.float32)
    _normalise(rows)
    return rows


def _normalise(rows: np.ndarray) -> None:
    """Scale rows [n, D] to norm 1, in place."""
    rows /= np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]


def _chunks(count: int, dimension: int) -> list[tuple[int, int]]:
    """Return ranges of rows of some 16 MB each."""
    step = max(1, _CHUNK_VALUES // dimension)
    return [(start, min(start + step, count)) for start in range(0, count, step)]


CLUSTERED = "clustered"
WORST: dict[str, Callable[[np.random.Generator, int, int], BenchmarkFeatures]] = {
    "no structure": _no_structure,
    "all identical": _identical,
    "one giant cluster": _one_cluster,
    "one giant dense cluster": _dense_cluster,
    "50% outliers": _half_outliers,
    "same-camera duplicates": _same_camera_copies,
}
KINDS = {CLUSTERED: _clustered, **WORST}
