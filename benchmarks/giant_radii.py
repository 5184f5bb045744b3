#!/usr/bin/env python
"""Count and time the passes over all pairs that it takes to lower epsilon until no cluster is a giant.

Two dense graphs: a chain that only a small radius breaks, and copies of one image, which none does. The rule
is worked off step by step, as it is worded, and by `cluster_without_giants`; both must give the same radius.
"""

import argparse
import sys
import time
from collections.abc import Callable
from unittest import mock

import numpy as np
from tabulate import tabulate

from nplp.clustering.dbscan import cluster
from nplp.clustering.giants import DROPPED, cluster_without_giants, is_giant
from nplp.clustering.sweep import euclidean
from nplp.clustering.sweep.euclidean import EuclideanDistances
from nplp.clustering.sweep.features import FeatureRows

SHARE, MIN_SAMPLES, DIMENSION = 0.3, 4, 64


def graphs(count: int) -> dict[str, tuple[np.ndarray, float]]:
    """Return features [count, 64] and an epsilon at which nearly all pairs are near, by name."""
    steps = np.random.default_rng(0).uniform(0.5, 1, size=(count, 1))
    chain = np.cumsum(steps, axis=0) * np.ones(DIMENSION)
    return {"a chain": (chain, 2.4 * count), "copies": (np.ones((count, DIMENSION)), 1.0)}


def step_by_step(distances: EuclideanDistances, epsilon: float) -> float | None:
    """Return the first radius without a giant, a tenth lower each time; None if there is none."""
    for step in range(89):
        labels = cluster(distances, epsilon * 0.9**step, MIN_SAMPLES)
        if not is_giant(labels, SHARE).any():
            return epsilon * 0.9**step
    return None


def searched(distances: EuclideanDistances, epsilon: float) -> float | None:
    """Return the same by the search."""
    _, radius, done = cluster_without_giants(distances, epsilon, MIN_SAMPLES, SHARE)
    return None if done == DROPPED else radius


def measured(
    find: Callable[[EuclideanDistances, float], float | None], features: np.ndarray, epsilon: float
) -> tuple[float | None, int, float]:
    """Return the radius, the number of passes and the seconds."""
    with mock.patch.object(euclidean, "sweep", wraps=euclidean.sweep) as sweep:
        start = time.perf_counter()
        radius = find(EuclideanDistances(FeatureRows.plain(features.astype(np.float32))), epsilon)
        return radius, sweep.call_count, time.perf_counter() - start


def main(arguments: list[str] | None = None) -> int:
    """Print the table, and return 1 if the two ways differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=3000, help="samples (default: 3000)")
    args = parser.parse_args(arguments)
    rows, status = [], 0
    for name, (features, epsilon) in graphs(args.count).items():
        found = [measured(find, features, epsilon) for find in (step_by_step, searched)]
        status |= found[0][0] != found[1][0]
        rows += [
            [name, way, passes, f"{seconds:.2f}", "none" if radius is None else f"{radius:.3f}"]
            for way, (radius, passes, seconds) in zip(("step by step", "searched"), found, strict=True)
        ]
    headers = ["graph", "way", "passes", "seconds", "radius"]
    sys.stdout.write(tabulate(rows, headers=headers, tablefmt="github") + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
