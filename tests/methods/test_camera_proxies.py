"""Camera proxies under both methods: what the table begins with, and that a saved state brings it back."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nplp.data.datasets import index_cameras, load_training_items
from nplp.data.loaders import TrainSet
from nplp.engine.trainer import ReidTrainer
from nplp.methods import build_method
from tiny import NARROW_BACKBONE, QUICKSTART, make_tiny_cfg

NARROW = [word for pair in NARROW_BACKBONE.items() for word in pair]
WITH_PROXIES = {
    QUICKSTART: "('TripletLoss', 'CenterContrastiveLoss', 'CameraProxyLoss')",
    "configs/methods/memory_quickstart.yml": "('ClusterMemoryLoss', 'CameraProxyLoss')",
}
IMAGES, WIDTH = 48, {QUICKSTART: 32, "configs/methods/memory_quickstart.yml": 64}
LABELS = np.where(np.arange(IMAGES) % 7 == 6, -1, np.arange(IMAGES) // 8)
CAMERAS = np.arange(IMAGES) % 3


@pytest.fixture(params=WITH_PROXIES)
def built(request, synthetic_root, tmp_path):
    """The method, its model and features of as many columns as the model's own."""
    cfg = make_tiny_cfg(
        synthetic_root,
        tmp_path,
        *NARROW,
        *("MODEL.LOSSES.NAME", WITH_PROXIES[request.param]),
        config_file=request.param,
    )
    model = ReidTrainer.build_model(cfg)
    neck = model.heads.neck[0]
    with torch.no_grad():
        neck.running_mean.uniform_(-1, 1)
    features = torch.randn(IMAGES, neck.num_features, generator=torch.Generator().manual_seed(0))
    return build_method(cfg, model), model, features


def test_the_table_begins_as_the_means_of_f_bn_by_cluster_and_camera(built):
    method, model, features = built
    method.begin_iteration(features, LABELS, CAMERAS)
    with torch.no_grad():
        # The memory method's features are f_bn, those of the paper's are f_e.
        f_bn = features if "ClusterMemoryLoss" in model.criteria else model.heads.neck[0].eval()(features)
    unit = F.normalize(f_bn, dim=1)
    means = [
        unit[torch.from_numpy((cluster == LABELS) & (camera == CAMERAS))].mean(0)
        for cluster in range(6)
        for camera in range(3)
    ]
    torch.testing.assert_close(
        model.criteria["CameraProxyLoss"].table, F.normalize(torch.stack(means), dim=1)
    )


def test_a_state_brings_the_proxies_back_to_the_bit(built):
    method, model, features = built
    loss = model.criteria["CameraProxyLoss"]
    method.load_state_dict(method.state_dict())
    method.begin_iteration(features, LABELS, CAMERAS)
    state, expected = method.state_dict(), loss.proxies()
    method.begin_iteration(features.flip(0), LABELS, CAMERAS)
    assert not torch.equal(loss.table, expected["table"])
    method.load_state_dict(state)
    assert all(torch.equal(value, expected[name]) for name, value in loss.proxies().items())


def test_without_the_loss_a_state_is_as_it_was(synthetic_root, tmp_path):
    cfg = make_tiny_cfg(synthetic_root, tmp_path)
    method = build_method(cfg, ReidTrainer.build_model(cfg))
    assert method.state_dict().keys() == {"table", "first_epsilon"}


def test_batches_number_cameras_as_the_table_does(tiny_cfg):
    items = load_training_items(tiny_cfg)
    cameras = index_cameras(items)
    assert [item[2] for item in items] != cameras.tolist()
    labels = np.arange(len(items)) % 5 - 1
    dataset = TrainSet(tiny_cfg, items, labels, cameras, np.array([0.5, 1.0, 1.5, 2.0])).dataset
    for number in (0, 3, len(dataset) - 1):
        image = dataset[number]
        assert image["camids"] == cameras[image["indices"]]
        assert image["weights"] == [0.5, 1.0, 1.5, 2.0][labels[image["indices"]]]
    assert "weights" not in TrainSet(tiny_cfg, items, labels, cameras).dataset[0]
