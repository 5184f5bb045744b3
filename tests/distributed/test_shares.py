"""A pass over pairs that two processes share gives the labels of one, and nobody waits in vain."""

from pathlib import Path

import numpy as np
import pytest
import torch

from nplp.clustering import estimate_pseudo_labels
from nplp.clustering.settings import DISTANCES
from ranks import run_ranks

FOLDER = Path(__file__).parent
CASES = [(distance, assessed) for distance in DISTANCES for assessed in (None, "euclidean")]


def drawn(count: int = 401) -> tuple[np.ndarray, np.ndarray]:
    """Return features [N, 96] of people of some 10 images, and their cameras [N]."""
    rng = np.random.default_rng(4)
    centres = rng.normal(size=(count // 10, 96))
    features = centres[rng.integers(len(centres), size=count)] + 0.5 * rng.normal(size=(count, 96))
    return features.astype(np.float32), rng.integers(5, size=count)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """What each of two processes made of each case."""
    folder = tmp_path_factory.mktemp("shares")
    features, cameras = drawn()
    cases = {
        (distance, assessed): (
            features,
            cameras,
            {"distance": distance, "assessment_distance": assessed, "alpha": 0.02, "noisy_fraction": 0.3},
        )
        for distance, assessed in CASES
    }
    torch.save(cases, folder / "cases.pt")
    return cases, run_ranks(FOLDER / "share_process.py", folder, weights_only=False)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_two_processes_label_as_one_does(labelled, case):
    cases, found = labelled
    features, cameras, options = cases[case]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = vars(estimate_pseudo_labels(features, cameras, **options))
    finally:
        torch.set_num_threads(threads)
    assert alone["labels"].max() > 5
    for rank in found:
        for name, value in alone.items():
            np.testing.assert_array_equal(rank[case][name], value, err_msg=name)
