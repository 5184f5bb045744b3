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
    labels, changes = tracks.labels_of(use, features, cameras, known, 0.9 / PEOPLE, 4)
    assert labels.shape == identities.shape
    assert bool(changes) == (use == tracks.CONSTRAIN)
    clustered = labels >= 0
    assert clustered.mean() > 0.8
    assert all(len(set(identities[labels == cluster])) == 1 for cluster in range(labels.max() + 1))


def test_the_table_has_a_column_for_each_kind_of_tracks():
    rows = [
        {"alpha": "chosen", "use": "none", "f1": 1 / 3},
        {"alpha": "chosen", "use": "constrain", "length": 8, "wrong": 0.05, "times": True, "f1": 0.5},
        {"alpha": "chosen", "use": "constrain", "length": 4, "wrong": 0.0, "times": True, "f1": 0.625},
    ]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in tracks.table(rows).splitlines()]
    assert lines[0] == ["alpha", "tracks", "4", "8, 5% wrong"]
    assert lines[2:] == [
        ["chosen", "constrain, with times", "62.5", "50.0"],
        ["chosen", "none", "33.3", "33.3"],
    ]
