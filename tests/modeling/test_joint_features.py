"""The mean feature of two networks."""

import torch
from torch.nn import functional as F

from nplp.engine.trainer import ReidTrainer
from nplp.modeling import JointFeatures
from tiny import make_tiny_cfg


def test_directions_are_averaged_and_the_mean_has_length_one(synthetic_root, tmp_path):
    cfg = make_tiny_cfg(synthetic_root, tmp_path)
    networks = [ReidTrainer.build_model(cfg) for _ in range(2)]
    with torch.no_grad():
        networks[0].heads.hyper_network.requires_grad_(False)
        next(networks[0].heads.hyper_network.parameters()).mul_(100)  # a longer feature counts no more
    joint = JointFeatures(networks)
    assert joint.training
    joint.eval()
    batch = {"images": torch.rand(4, 3, 32, 16) * 255}
    with torch.no_grad(), joint.raw_features():
        first, second = (F.normalize(network(batch)) for network in networks)
        found = joint(batch)
    torch.testing.assert_close(found, F.normalize((first + second) / 2))
    assert not networks[0].training
    assert not JointFeatures(networks).training
