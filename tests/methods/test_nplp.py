"""The paper's method as a method: that its section of the configuration reaches the labels and the page."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nplp.clustering import estimate_pseudo_labels
from nplp.engine.rules import measure_scale
from nplp.engine.trainer import ReidTrainer
from nplp.errors import UserError
from nplp.methods import DistanceSettings, build_method
from tiny import NARROW_BACKBONE, make_tiny_cfg

NARROW = [word for pair in NARROW_BACKBONE.items() for word in pair]
CAMERAS = np.arange(60) % 3


def label(synthetic_root, output, *pairs, cameras=CAMERAS):
    cfg = make_tiny_cfg(synthetic_root, output, *NARROW, "NPLP.ALPHA", 0.1, *pairs)
    return build_method(cfg, ReidTrainer.build_model(cfg)).label(1, features_of_cameras(), cameras)


def features_of_cameras():
    rng = np.random.default_rng(0)
    points = np.eye(10)[np.repeat(np.arange(10), 6)] + 0.1 * rng.normal(size=(60, 10))
    return torch.from_numpy((points + 3 * np.eye(10)[CAMERAS]).astype(np.float32))


@pytest.mark.parametrize("distance", ["jaccard", "camera_jaccard", "euclidean"])
@pytest.mark.parametrize("treated", [(), ("CAMERA_CENTERING",), ("CAMERA_CENTERING", "CAMERA_SCALING")])
def test_cameras_are_treated_as_the_section_says(synthetic_root, tmp_path, distance, treated):
    pairs = [word for name in treated for word in (f"NPLP.{name}", True)]
    sizes = {"k1": 9, "k2": 3, "k1_intra": 4, "k1_inter": 7, "k2_intra": 3, "k2_inter": 2}
    pairs += [word for name, size in sizes.items() for word in (f"NPLP.{name.upper()}", size)]
    labelling = label(synthetic_root, tmp_path, *pairs, "NPLP.DISTANCE", distance)
    settings = {**sizes, **{name.lower(): True for name in treated}}
    expected = estimate_pseudo_labels(
        F.normalize(features_of_cameras()), CAMERAS, alpha=0.1, correct=False, distance=distance, **settings
    )
    np.testing.assert_array_equal(labelling.estimate.labels, expected.labels)
    assert labelling.estimate.epsilon_e == expected.epsilon_e
    seen = asdict(labelling.distances)
    assert seen.items() >= {**settings, "name": distance, "normalize": True}.items()


def test_a_target_of_one_camera_is_told_what_to_do(synthetic_root, tmp_path):
    with pytest.raises(UserError, match="got camera 3 alone: take distance jaccard"):
        label(synthetic_root, tmp_path, "NPLP.DISTANCE", "camera_jaccard", cameras=np.full(60, 3))


def test_scaled_features_with_nothing_in_common_are_at_right_angles():
    features = 7 + features_of_cameras()
    scaled = DistanceSettings("euclidean", camera_centering=True, camera_scaling=True)
    assert measure_scale(scaled, features, 0.0, 0.0).unrelated == pytest.approx(2**0.5)
    assert measure_scale(DistanceSettings("euclidean"), features, 0.0, 0.0).unrelated < 1
