"""The stage never holds an N x N array."""

from __future__ import annotations

import subprocess
import sys

import pytest

resource = pytest.importorskip("resource")

COUNT = 8000
SCRIPT = """
import resource, sys
import numpy as np, torch
from nplp.clustering import estimate_pseudo_labels
torch.set_num_threads(1)
count, distance = int(sys.argv[1]), sys.argv[2]
rng = np.random.default_rng(0)
centres = rng.normal(size=(count // 20, 8))
features = centres[rng.integers(len(centres), size=count)] + 0.1 * rng.normal(size=(count, 8))
cameras = rng.integers(6, size=count)
estimate_pseudo_labels(features[:64], cameras[:64], distance=distance)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
estimate_pseudo_labels(features, cameras, distance=distance)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss is that of Linux")
@pytest.mark.parametrize("distance", ["jaccard", "euclidean"])
def test_memory_is_a_fraction_of_the_matrix(distance: str) -> None:
    command = [sys.executable, "-c", SCRIPT, str(COUNT), distance]
    grown = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    matrix = COUNT**2 * 4 / 2**20
    assert grown < matrix / 2, f"{grown:.0f} MB for a matrix of {matrix:.0f} MB"
