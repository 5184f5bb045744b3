"""SpCL as a method: what it clusters, how un-clustered images train, how it resumes, what it refuses."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nplp.data.loaders import TrainSet, build_train_loader
from nplp.engine.trainer import ReidTrainer
from nplp.errors import UserError
from nplp.methods import build_method
from tiny import NARROW_BACKBONE, make_tiny_cfg

SPCL = "configs/methods/spcl_quickstart.yml"
NARROW = [word for pair in NARROW_BACKBONE.items() for word in pair]
SMALL = ("NPLP.SPCL.K1", 8, "NPLP.SPCL.EPSILON", 0.3)
CAMERAS = np.arange(50) % 3


def spcl_cfg(synthetic_root, output, *pairs):
    return make_tiny_cfg(synthetic_root, output, *NARROW, *pairs, config_file=SPCL)


def built(cfg):
    model = ReidTrainer.build_model(cfg)
    return build_method(cfg, model), model.criteria["HybridMemoryLoss"]


def planted(people=6, images=8, width=64):
    """Return features of six people with eight images each, and of two images that are like nobody."""
    rng = np.random.default_rng(0)
    points = np.eye(width)[np.repeat(np.arange(people), images)]
    points = np.concatenate([points, np.eye(width)[[people, people + 1]]])
    points = points + 0.05 * rng.normal(size=points.shape)
    return torch.from_numpy((points * rng.uniform(0.5, 2, size=(len(points), 1))).astype(np.float32))


@pytest.fixture
def method(synthetic_root, tmp_path):
    return built(spcl_cfg(synthetic_root, tmp_path, *SMALL))


def test_the_memory_is_set_once_and_clustered_from_then_on(method):
    method, loss = method
    features = planted()
    labels = method.label(1, features, CAMERAS).estimate.labels
    assert labels[:48].tolist() == np.repeat(np.arange(6), 8).tolist()
    assert labels[48:].tolist() == [-1, -1]
    method.begin_iteration(features, labels, CAMERAS)
    torch.testing.assert_close(loss.table, F.normalize(features))
    assert loss.classes[48:].tolist() == [6, 7]
    # What features are later makes no difference.
    noise = torch.randn(50, 64, generator=torch.Generator().manual_seed(1))
    again = method.label(2, noise, CAMERAS).estimate.labels
    np.testing.assert_array_equal(again, labels)
    method.begin_iteration(noise, again, CAMERAS)
    torch.testing.assert_close(loss.table, F.normalize(features))


def test_a_state_brings_memory_classes_and_threshold_back(method, synthetic_root, tmp_path):
    method, loss = method
    method.load_state_dict(method.state_dict())
    features = planted()
    labels = method.label(1, features, CAMERAS).estimate.labels
    method.begin_iteration(features, labels, CAMERAS)
    values = torch.randn(8, 64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    loss(values, loss.classes[:8], torch.arange(8)).backward()
    state = method.state_dict()
    other, fresh = built(spcl_cfg(synthetic_root, tmp_path / "other", *SMALL))
    other.load_state_dict(state)
    assert torch.equal(fresh.table, loss.table)
    assert torch.equal(fresh.classes, loss.classes)
    assert state["threshold"] is not None
    assert other.state_dict()["threshold"] == state["threshold"]


def test_batches_hold_k_images_of_a_cluster_and_each_single_image_once(synthetic_root, tmp_path):
    cfg = spcl_cfg(synthetic_root, tmp_path)
    labels = np.array([0] * 6 + [1] * 5 + list(range(2, 15)))
    items = [(f"{number}.png", 0, "c") for number in range(len(labels))]
    train_set = TrainSet(cfg, items, labels, np.arange(len(labels)) % 2, singles=True)

    def batches(number=50):
        loader = build_train_loader(train_set, num_batches=number, seed=3)
        return list(loader.loader.batch_sampler)

    drawn = batches()
    assert {len(batch) for batch in drawn} == {16}
    assert drawn == batches()
    # A pass over the identities is 4 + 4 + 13 images, of which one batch is cut.
    for batch in drawn:
        counts = np.bincount(labels[batch], minlength=15)
        assert counts[:2].max() <= 4
        assert counts[2:].max() == 1
    images = np.concatenate(drawn)
    assert set(images.tolist()) == set(range(len(labels)))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("NPLP.SPCL.EPSILON", 0.0, r"NPLP\.SPCL\.EPSILON must be in \(0, 1\], got 0\.0"),
        ("NPLP.SPCL.GAP", 0.7, r"NPLP\.SPCL\.GAP must be at least 0 and below NPLP\.SPCL\.EPSILON, got 0\.7"),
        ("NPLP.SPCL.K2", 50, r"NPLP\.SPCL\.K2 must be between 1 and NPLP\.SPCL\.K1, got 50"),
        ("NPLP.SPCL.DISTANCE", "euclidean", r"NPLP\.SPCL\.DISTANCE must be one of .* got 'euclidean'"),
        ("NPLP.SPCL.CAMERA_SCALING", True, r"NPLP\.SPCL\.CAMERA_SCALING must be False unless"),
        ("NPLP.TRACKS", "average", r"NPLP\.TRACKS 'average': .* set it to none"),
        ("NPLP.TRACKS", "constrain", r"NPLP\.TRACKS 'constrain': .* set it to none"),
        ("MODEL.HEADS.OUTPUT", "f_e", r"'spcl' needs MODEL\.HEADS\.OUTPUT 'f_bn', got 'f_e'"),
    ],
)
def test_what_it_cannot_do_is_refused_in_one_line(synthetic_root, tmp_path, key, value, message):
    cfg = spcl_cfg(synthetic_root, tmp_path, key, value)
    with pytest.raises(UserError, match=message):
        build_method(cfg, ReidTrainer.build_model(cfg))


def test_labels_by_averaged_weights_are_refused(synthetic_root, tmp_path):
    cfg = spcl_cfg(synthetic_root, tmp_path, "NPLP.EMA", True, "NPLP.EMA_LABELS", True)
    with pytest.raises(UserError, match=r"NPLP\.EMA_LABELS True .* set it to False"):
        build_method(cfg, ReidTrainer.build_model(cfg))
