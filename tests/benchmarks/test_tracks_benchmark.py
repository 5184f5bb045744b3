"""The benchmark of tracks: each way of using them labels planted people, and the table holds its figures."""

import numpy as np
import pytest

import tracks
from nplp.clustering import build_constraints

PEOPLE, IMAGES = 8, 16


@pytest.mark.parametrize("use", [tracks.NONE, tracks.AVERAGE, tracks.ALONE, tracks.CONSTRAIN])
def test_every_use_of_tracks_labels_each_image(use):
    rng = np.random.default_rng(0)
    identities = np.repeat(np.arange(PEOPLE), IMAGES)
    cameras = np.tile(np.repeat([0, 1], IMAGES // 2), PEOPLE)
    features = np.eye(PEOPLE, 32)[identities] + 0.05 * rng.normal(size=(len(identities), 32))
    features = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)
    known = build_constraints(len(features), tracks=np.arange(len(features)) // 4, camera_ids=cameras)
    labels, changes = tracks.labels_of(use, features, cameras, known, PEOPLE, 4)
    assert labels.shape == identities.shape
    assert bool(changes) == (use == tracks.CONSTRAIN)
    clustered = labels >= 0
    assert clustered.mean() > 0.8
    assert all(len(set(identities[labels == cluster])) == 1 for cluster in range(labels.max() + 1))


def test_the_table_shows_percent():
    figures = {"precision": 0.5, "recall": 0.25, "f1": 1 / 3, "cross_camera_recall": 0.1}
    counts = {"clusters": 7, "outliers": 3}
    rows = [
        {"use": "none", **figures, **counts},
        {"use": "constrain", "length": 8, "wrong": 0.05, "times": True, "tracks": 90, **figures, **counts},
    ]
    plain, constrained = tracks.table(rows).splitlines()[2:]
    assert "| none" in plain
    assert [cell.strip() for cell in constrained.split("|")[1:6]] == ["constrain", "8", "5%", "yes", "90"]
    assert "50.0" in plain
    assert "33.3" in plain
