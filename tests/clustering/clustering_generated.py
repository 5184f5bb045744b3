"""One case of the pseudo-label stage for every index: features, cameras and options of all sorts.

Ties are made to be exact: grids are scaled by powers of two, and where cameras are centred their sizes are
powers of two as well, so that neither sums nor means are rounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import clustering_oracle as oracle
import numpy as np
import torch
from clustering_cases import KINDS

SEED = 20240229
LARGEST_HALF = 6e4
SIZES = ((2, 7), (7, 31), (31, 151), (151, 301))
SIZE_SHARES = (0.07, 0.37, 0.52, 0.04)
LOPSIDED_SIZES = (150, 500)
CLUSTERED = ("blobs", "near_duplicates", "mixed_norms", "unit_norm", "mirrored")
CAMERA_NUMBERS = (1, 2, 2, 3, 4, 5, 6, 7, 8)


def lopsided(rng: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    """A cube's corners, so that distances have few values, and four samples far from them.

    The mean distance to the four is a small part of a sum over all, and errors of equal distances add up.
    """
    x = rng.integers(2, size=(count, dimension)).astype(float)
    x[:4] = x[0]
    x[:4, 0] += rng.uniform(3, 9)
    return rng.permutation(x)


DRAWN = {**KINDS, "lopsided": lopsided}


@dataclass(frozen=True)
class Generated:
    """A case as the stage is given it, and as the oracle sees it.

    Attributes:
        features: [N, D] in any type and layout.
        camera_ids: [N] in any integer type, or None.
        options: keyword arguments of `estimate_pseudo_labels`.
        values: [N, D] float64, equal to the features.
        cameras: [N] int64, or None.
    """

    features: torch.Tensor | np.ndarray
    camera_ids: Any
    options: dict[str, Any]
    values: np.ndarray
    cameras: np.ndarray | None


def generate(index: int) -> Generated:
    rng = np.random.default_rng([SEED, index])
    kind = str(rng.choice(list(DRAWN) if rng.random() < 0.5 else CLUSTERED))
    exact = kind == "grid"
    options = draw_options(rng)
    sizes = LOPSIDED_SIZES if kind == "lopsided" else SIZES[rng.choice(len(SIZES), p=SIZE_SHARES)]
    count, places = draw_layout(rng, sizes, exact and options["camera_centering"])
    x = DRAWN[kind](rng, count, int(rng.choice([1, 2, 3, 8, 65, 130, 512])))
    if kind == "unit_norm":
        x = with_camera_effects(rng, x, places)
    x = x * rng.choice([1, 1, 1, 2.0**-10 if exact else 1e-3, 2.0**10 if exact else 1e3])
    features, values = draw_form(rng, x + rng.choice([0, 0, 0, 10, 1e3]))
    known = options["camera_centering"] or rng.random() < 0.93
    camera_ids, cameras = draw_camera_ids(rng, places) if known else (None, None)
    add_options_by_size(rng, options, count)
    if kind != "lopsided" and rng.random() < 0.2:
        options["epsilon"] = draw_epsilon(rng, values, options, exact)
    if kind == "lopsided":
        # Few enough neighbours make the four a cluster; alpha must join the corners of the cube.
        alpha = float(10 ** rng.uniform(-2, -0.5))
        options.update(distance="euclidean", assessment_distance=None, min_samples=3, alpha=alpha)
    return Generated(features, camera_ids, options, values, cameras)


def draw_options(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "beta": float(rng.choice([0.5, 0.5, 0.8, 1.0, rng.uniform(0.05, 1)])),
        "min_samples": int(rng.choice([1, 2, 2, 3, 3, 4, 4, 5, 6, 7, 8])),
        "noisy_fraction": float(rng.choice([0.1, 0.1, 0.5, 1.0, rng.uniform(0.01, 1)])),
        "correct": bool(rng.random() < 0.95),
        "distance": str(rng.choice(["jaccard", "euclidean"])),
        "assessment_distance": [None, None, "jaccard", "euclidean"][rng.integers(4)],
        "camera_centering": bool(rng.random() < 0.2),
        "dissolved": str(rng.choice(["drop", "keep"])),
    }


def draw_layout(
    rng: np.random.Generator, sizes: tuple[int, int], powers_of_two: bool
) -> tuple[int, np.ndarray]:
    """Return N and the camera [N] of each image, numbered from 0: of very unequal sizes, in any order."""
    number = int(rng.choice(CAMERA_NUMBERS))
    if powers_of_two:
        exponent = int(rng.integers(3, 8))
        number = min(number, exponent)
        images = [2 ** (exponent - 1 - i) for i in range(number - 1)]
        count = 2**exponent
        images.append(count - sum(images))
        places = np.repeat(np.arange(number), images)
    else:
        count = int(rng.integers(*sizes))
        share = rng.dirichlet(np.full(number, 0.7))
        places = rng.choice(number, size=count, p=share)
        if number > 1 and rng.random() < 0.3:
            # One camera with a single image, the last of the numbers.
            places = np.minimum(places, number - 2)
            places[0] = number - 1
    return count, rng.permutation(places)


def with_camera_effects(rng: np.random.Generator, x: np.ndarray, places: np.ndarray) -> np.ndarray:
    shift = rng.normal(size=(places.max() + 1, x.shape[1])) * 0.7 / np.sqrt(x.shape[1])
    x = x + shift[places]
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def draw_form(rng: np.random.Generator, x: np.ndarray) -> tuple[torch.Tensor | np.ndarray, np.ndarray]:
    """Return features in some type and layout, and the same values as a plain float64 array."""
    types = [np.float32, np.float32, np.float64]
    if np.abs(x).max() < LARGEST_HALF:
        types.append(np.float16)
    x = x.astype(types[rng.integers(len(types))])
    values = x.astype(np.float64)
    wide = np.repeat(np.repeat(x, 2, axis=0), 2, axis=1)
    forms = [
        x,
        np.asfortranarray(x),
        wide[::2, ::2],
        np.ascontiguousarray(x[::-1])[::-1],
        torch.from_numpy(x),
        torch.from_numpy(x).requires_grad_(),
        torch.from_numpy(np.ascontiguousarray(x.T)).T,
        torch.from_numpy(wide)[::2, 1::2],
    ]
    if (values == values.round()).all():
        forms.append(values.astype(np.int64))
    return forms[rng.integers(len(forms))], values


def draw_camera_ids(rng: np.random.Generator, places: np.ndarray) -> tuple[Any, np.ndarray]:
    """Return ids as the stage is given them, and as int64: small, negative or beyond 2^53."""
    names = [
        np.arange(8),
        rng.permutation(8) - 4,
        2**62 + np.arange(8),
        rng.integers(-(2**62), 2**62, size=8),
    ]
    chosen = int(rng.integers(len(names)))
    cameras = names[chosen].astype(np.int64)[places]
    forms = [cameras, cameras.tolist(), torch.from_numpy(cameras), np.repeat(cameras, 2)[::2]]
    if chosen < 2:
        forms += [cameras.astype(np.int8), torch.from_numpy(cameras).to(torch.int32)]
    return forms[rng.integers(len(forms))], cameras


def add_options_by_size(rng: np.random.Generator, options: dict[str, Any], count: int) -> None:
    """Add alpha, often such that eq. 4 averages a few pairs a sample, k1, even beyond N, and k2."""
    few = min(1, rng.uniform(0.5, 8) / count)
    choices = [1.0, 0.0012, 10 ** rng.uniform(-6, 0), 10 ** rng.uniform(-2.5, -0.3), few]
    options["alpha"] = float(rng.choice(choices, p=[0.05, 0.1, 0.1, 0.25, 0.5]))
    options["k1"] = int(rng.choice([20, rng.integers(1, 31), rng.integers(1, 9), count + rng.integers(1, 5)]))
    options["k2"] = int(rng.choice([6, 1, rng.integers(1, 13)]))


def draw_epsilon(rng: np.random.Generator, values: np.ndarray, options: dict[str, Any], exact: bool) -> float:
    """Return a given radius: at a pair's distance where that is exact, else a little or more off it."""
    euclidean = options["distance"] == "euclidean"
    if not euclidean and rng.random() < 0.3:
        return float(rng.choice([0.0, 1.0, 1.2]))
    matrix = oracle.distance_matrix(values, options["distance"], options["k1"], options["k2"])
    distances = np.sort(matrix[np.triu_indices(len(values), 1)])
    pair = distances[int(rng.beta(0.5, 2) * len(distances))]
    hardly = 1 + rng.choice([-1, 1]) * 10 ** rng.uniform(-8, -4)
    return float(pair * rng.choice([hardly, 1 if exact or not euclidean else hardly, rng.uniform(0.7, 1.3)]))
