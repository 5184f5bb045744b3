"""Networks are known by the names of their weights."""

import pytest
import torch
import torchvision
from fastreid.modeling.backbones import osnet, resnet

from nplp.weights.kinds import network_of


def shapes_of(network, prefix=""):
    return {prefix + key: tuple(value.shape) for key, value in network.state_dict().items()}


def make_osnet(channels, instance_norm=False):
    blocks = [osnet.OSBlock] * 3
    return osnet.OSNet(blocks, [2, 2, 2], channels, "BN", IN=instance_norm)


def make_resnet_ibn():
    return resnet.ResNet(1, "BN", True, False, False, resnet.BasicBlock, [2, 2, 2, 2], [0] * 4)


models = torchvision.models
NETWORKS = {
    "ResNet-18": lambda: models.resnet18(),
    "ResNet-34": lambda: models.resnet34(),
    "ResNet-50": lambda: models.resnet50(),
    "ResNet-101": lambda: models.resnet101(),
    "ResNet-152": lambda: models.resnet152(),
    "ResNeXt-50": lambda: models.resnext50_32x4d(),
    "ResNet-18 IBN-a": make_resnet_ibn,
    "MobileNetV2 of 32 channels": lambda: models.mobilenet_v2(),
    "MobileNetV3": lambda: models.mobilenet_v3_small(),
    "DenseNet": lambda: models.densenet121(),
    "OSNet x0_25": lambda: make_osnet([16, 64, 96, 128]),
    "OSNet-IBN x0_5": lambda: make_osnet([32, 128, 192, 256], instance_norm=True),
    "": lambda: models.squeezenet1_0(),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("prefix", ["", "backbone.", "module.base."])
def test_a_network_is_known_under_any_prefix(name, prefix):
    with torch.device("meta"):
        network = NETWORKS[name]()
    assert network_of(shapes_of(network, prefix)) == name


def test_nothing_is_known_of_nothing():
    assert network_of({}) == ""


def test_stages_without_our_stem_are_another_network():
    assert "not known" in network_of({"stages.0.0.conv1.weight": (64, 3, 3, 3)})
