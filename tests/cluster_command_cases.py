"""Runs the command of the pseudo-label stage in this process, on small files in the current folder."""

from __future__ import annotations

import functools

import numpy as np

from nplp.clustering import PseudoLabels, estimate_pseudo_labels
from nplp_commands import cluster as cluster_command

COUNT = 120
ALPHA = 0.06
USUAL = ("features.npy", "--cameras", "cameras.npy", "--out", "labels.npz", "--alpha", str(ALPHA))


def make_data() -> dict[str, np.ndarray]:
    """Return features [120, 8] of 15 people, their cameras and identities."""
    rng = np.random.default_rng(0)
    identities = rng.integers(15, size=COUNT)
    features = 2 * rng.normal(size=(15, 8))[identities] + rng.normal(size=(COUNT, 8))
    return {
        "features": features.astype(np.float32),
        "cameras": rng.integers(4, size=COUNT),
        "identities": identities,
    }


def write_data() -> dict[str, np.ndarray]:
    """Write the arrays into the current folder, a .npy file each, and return them."""
    data = make_data()
    for name, array in data.items():
        np.save(f"{name}.npy", array)
    return data


def command(*arguments: str) -> int:
    """Run the command and return its exit code."""
    try:
        cluster_command.main(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def saved() -> dict[str, np.ndarray]:
    """Return what the command wrote."""
    with np.load("labels.npz", allow_pickle=False) as archive:
        return dict(archive)


class FakeEstimate:
    """In place of the estimate: keeps the settings, then raises what it was told to or returns outliers."""

    def __init__(self, failure: BaseException | None = None) -> None:
        self.settings: dict = {}
        self.failure = failure
        functools.update_wrapper(self, estimate_pseudo_labels)

    def __call__(self, features: object, camera_ids: object, **settings: object) -> PseudoLabels:
        self.settings = settings
        if self.failure is not None:
            raise self.failure
        nothing, none = np.full(COUNT, -1), np.empty(0)
        return PseudoLabels(nothing, nothing, 0.0, 0.0, none, none, none, 0, 0, 0.0, "")
