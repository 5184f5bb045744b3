"""Source models are recognised by content, and give the embedding that their own project gives."""

import pytest
import timm
import torch
import torchvision

from nplp.config import default_config
from nplp.errors import UserError
from nplp.weights.source_models import IMAGENET_ONLY, recognise
from source_cases import Made, assert_same_embedding, build, fastreid, save, torchreid_osnet

GEM, GEM_P = "GeneralizedMeanPooling", "GeneralizedMeanPoolingP"
R50 = {"BACKBONE__DEPTH": "50x", "BACKBONE__FEAT_DIM": 2048}
OSNET = {"BACKBONE__NAME": "build_osnet_backbone", "BACKBONE__DEPTH": "x0_25", "BACKBONE__FEAT_DIM": 128}
MOBILE = {
    "BACKBONE__NAME": "build_mobilenetv2_backbone",
    "BACKBONE__DEPTH": "0.25x",
    "BACKBONE__FEAT_DIM": 1280,
}

OF_FASTREID = {
    "fastreid BoT, ResNet-18, average pooling, BN neck": {},
    "fastreid BoT, ResNet-34 IBN-a, average pooling, BN neck": {
        "BACKBONE__DEPTH": "34x",
        "BACKBONE__WITH_IBN": True,
    },
    "fastreid BoT, ResNet-18 with SE blocks, average pooling, BN neck": {"BACKBONE__WITH_SE": True},
    "fastreid BoT, OSNet x0_25, average pooling, BN neck": OSNET,
    "fastreid BoT, MobileNetV2 of 8 channels, average pooling, BN neck": MOBILE,
    "fastreid AGW, ResNet-50 with non-local blocks, GeM pooling, BN neck": {
        **R50,
        "BACKBONE__WITH_NL": True,
        "HEADS__POOL_LAYER": GEM,
    },
    "fastreid AGW or SBS, ResNet-50 IBN-a with non-local blocks, GeM pooling, BN neck": {
        **R50,
        "BACKBONE__WITH_NL": True,
        "BACKBONE__WITH_IBN": True,
        "HEADS__POOL_LAYER": GEM_P,
    },
    "fastreid SBS, OSNet-IBN x0_25, GeM pooling, BN neck": {
        **OSNET,
        "BACKBONE__WITH_IBN": True,
        "HEADS__POOL_LAYER": GEM_P,
    },
    "fastreid SBS, ResNet-18, GeM pooling, a fully connected layer of 64, BN neck": {
        "HEADS__EMBEDDING_DIM": 64,
        "HEADS__POOL_LAYER": GEM_P,
    },
    "fastreid BoT, ResNet-18, average pooling, a fully connected layer of 64": {
        "HEADS__EMBEDDING_DIM": 64,
        "HEADS__WITH_BNNECK": False,
    },
}


@pytest.mark.parametrize("description", OF_FASTREID)
def test_the_embedding_of_fastreid_is_kept(tmp_path, description):
    made = fastreid(**OF_FASTREID[description])
    source = recognise(save(made, tmp_path / "model.pth"))
    assert source.description == f"{description}, trained with 751 identities"
    assert source.options["MODEL.BACKBONE.FEAT_DIM"] == OF_FASTREID[description].get(
        "BACKBONE__FEAT_DIM", 512
    )
    assert_same_embedding(made, build(source))


@pytest.mark.parametrize(
    ("width", "channels", "instance_norm"),
    [("x0_25", 128, False), ("x0_5", 256, False), ("x0_75", 384, True), ("x1_0", 512, True)],
)
def test_the_embedding_of_torchreids_osnet_is_kept(tmp_path, width, channels, instance_norm):
    made = torchreid_osnet(width, channels, instance_norm=instance_norm)
    source = recognise(save(made, tmp_path / "osnet.pth.tar"))
    name = f"OSNet{'-IBN' if instance_norm else ''} {width}"
    head = "average pooling, a fully connected layer of 512, BN neck and ReLU"
    assert source.description == f"torchreid, {name}, {head}, trained with 1041 identities"
    assert source.embedding == f"f_r, 512 values: {head}"
    assert_same_embedding(made, build(source))


def meta(make, **options):
    """Return the file's content of a network whose weights are not drawn, as only names and shapes count."""
    with torch.device("meta"):
        network = make(**options)
    return {key: torch.zeros(value.shape, dtype=value.dtype) for key, value in network.state_dict().items()}


def made_by_torchreid(make, **options):
    weights = meta(make, **options)
    del weights["fc.weight"], weights["fc.bias"]
    return {**weights, "classifier.weight": torch.zeros(702, 2048), "classifier.bias": torch.zeros(702)}


models = torchvision.models
OTHERS = {
    f"torchvision or timm, ResNet-18, average pooling in 2 granularities, {IMAGENET_ONLY}": lambda: meta(
        models.resnet18
    ),
    f"torchvision or timm, ResNet-50, average pooling in 2 granularities, {IMAGENET_ONLY}": lambda: meta(
        timm.create_model, model_name="resnet50"
    ),
    f"torchvision or timm, MobileNetV2 of 32 channels, average pooling in 2 granularities, {IMAGENET_ONLY}": (
        lambda: meta(models.mobilenet_v2)
    ),
    "timm, Vision Transformer of 12 blocks (vit_small_patch16_224), average pooling in 2 granularities, "
    f"{IMAGENET_ONLY}": lambda: meta(timm.create_model, model_name="vit_small_patch16_224"),
    "torchreid, ResNet-50, average pooling, trained with 702 identities": lambda: made_by_torchreid(
        models.resnet50
    ),
    "a backbone without its head, OSNet x0_25, average pooling in 2 granularities": lambda: {
        "model": {
            key: value
            for key, value in fastreid(**OSNET).content["model"].items()
            if key.startswith("backbone.")
        }
    },
    "fastreid BoT, ResNeSt-50, average pooling, BN neck, trained with 751 identities": lambda: (
        fastreid(**R50, BACKBONE__NAME="build_resnest_backbone").content
    ),
}


@pytest.mark.parametrize("description", OTHERS)
def test_what_other_projects_publish_is_recognised(tmp_path, description):
    torch.save(OTHERS[description](), tmp_path / "weights.pth")
    source = recognise(str(tmp_path / "weights.pth"))
    assert source.description == description
    cfg = default_config()
    for key, value in source.options.items():
        cfg.merge_from_list([key, value])


def test_the_embedding_of_torchreids_osnet_needs_no_prefix_and_no_classifier(tmp_path):
    made = torchreid_osnet()
    weights = {key.removeprefix("module."): value for key, value in made.content["state_dict"].items()}
    bare = Made({key: value for key, value in weights.items() if "classifier" not in key}, made.embed)
    source = recognise(save(bare, tmp_path / "osnet.pth"))
    assert "identities" not in source.description
    assert_same_embedding(bare, build(source))


def test_an_unknown_network_is_named(tmp_path):
    torch.save(meta(models.squeezenet1_0), tmp_path / "squeezenet.pth")
    with pytest.raises(UserError, match=r"squeezenet.pth' holds an unknown network \(classifier\.1\.bias"):
        recognise(str(tmp_path / "squeezenet.pth"))
