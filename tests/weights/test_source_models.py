"""Source models are recognised by content, and give the embedding that their own project gives."""

import pytest
import torch
import torchvision

from nplp.config import default_config
from nplp.errors import UserError
from nplp.weights.source_models import IMAGENET_ONLY, recognise
from nplp.weights.zoo import write_sums
from source_cases import IMAGES, Made, assert_same_embedding, build, fastreid, save, torchreid_osnet
from weight_forms import embed, make_model

timm = pytest.importorskip("timm")
checkpoint_filter_fn = timm.models.vision_transformer.checkpoint_filter_fn

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
    channels = OF_FASTREID[description].get("BACKBONE__FEAT_DIM", 512)
    assert source.options["MODEL.BACKBONE.FEAT_DIM"] == channels
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


def test_branches_ain_and_unusual_transformers_are_refused_by_name(tmp_path):
    cases = {
        "fastreid's MGN": {"b1.0.conv1.weight": torch.zeros(1), "b1_head.weight": torch.zeros(1)},
        "OSNet-AIN": {"conv2.0.conv2.0.layers.0.conv1.weight": torch.zeros(1)},
        "with a deep stem": meta(timm.create_model, model_name="resnet26d"),
        "with layer scale": meta(timm.create_model, model_name="deit3_small_patch16_224"),
    }
    for name, weights in cases.items():
        torch.save(weights, tmp_path / "weights.pth")
        with pytest.raises(UserError, match=f"holds .*{name}.*") as caught:
            recognise(str(tmp_path / "weights.pth"))
        assert "\n" not in str(caught.value)


def narrow(**options):
    """Return a toolbox's model on this project's smallest backbone."""
    name = {"BACKBONE__NAME": "build_narrow_resnet_backbone", "BACKBONE__FEAT_DIM": 64}
    return fastreid(**{**name, "HEADS__NUM_CLASSES": 9, **options})


def test_a_configuration_beside_the_file_says_what_weights_do_not_show(tmp_path):
    made = narrow(HEADS__POOL_LAYER=GEM)
    path = save(made, tmp_path / "model.pth")
    source = recognise(path)
    assert source.options["MODEL.HEADS.POOLING"] == "average"
    assert any("MODEL.HEADS.POOLING" in note for note in source.notes)
    config = tmp_path / "config.yaml"
    config.write_text(
        "MODEL: {META_ARCHITECTURE: Baseline, HEADS: {POOL_LAYER: GeneralizedMeanPooling}, "
        "BACKBONE: {LAST_STRIDE: 2}}\nINPUT: {SIZE_TEST: [384, 128]}\n"
    )
    source = recognise(path)
    assert source.options["MODEL.HEADS.POOLING"] == "gem"
    assert source.options["MODEL.BACKBONE.LAST_STRIDE"] == 2
    assert source.options["INPUT.SIZE_TEST"] == [384, 128]
    assert source.description == (
        "fastreid BoT, narrow ResNet-18 of 64 channels, GeM pooling, BN neck, trained with 9 identities"
    )
    assert not any("do not show MODEL.HEADS.POOLING" in note for note in source.notes)
    config.write_text("MODEL: {BACKBONE: {NAME: build_osnet_backbone, LAST_STRIDE: 2}}")
    source = recognise(path)
    assert "is another model's" in source.notes[-1]
    assert source.options["MODEL.BACKBONE.NAME"] == "build_narrow_resnet_backbone"
    for wrong, message in (
        ("MODEL: {HEADS: {POOL_LAYER: AdaptiveAvgMaxPool}}", "pools by 'AdaptiveAvgMaxPool'"),
        ("MODEL: {BACKBONE: {FEAT_DIM: 99999}}", r"sets MODEL\.BACKBONE\.FEAT_DIM to 99999"),
        ("MODEL: {BACKBONE: {NAME: '__import__(1)'}}", r"sets MODEL\.BACKBONE\.NAME"),
        ("MODEL: [", "config.yaml"),
    ):
        config.write_text(wrong)
        with pytest.raises(UserError, match=message):
            recognise(path)


def test_this_projects_checkpoints_are_recognised_by_names_alone(tmp_path):
    for options in (
        {"MODEL__HEADS__PAP": 3},
        {"MODEL__HEADS__FUSION": "concat", "MODEL__HEADS__POOLING": "gem", "MODEL__HEADS__PAP": 1},
    ):
        model = make_model(1, **options)
        torch.save({"model": model.state_dict()}, tmp_path / "model_final.pth")
        source = recognise(str(tmp_path / "model_final.pth"))
        assert source.description.startswith("a checkpoint of this project, narrow ResNet-18 of 16 channels")
        assert source.description.endswith("trained with 7 identities")
        again = build(source)
        assert torch.equal(embed(again), embed(model))


def test_a_bundle_is_recognised_by_its_own_configuration(tmp_path, monkeypatch):
    folder = tmp_path / "zoo" / "narrow"
    folder.mkdir(parents=True)
    model = make_model(1, MODEL__HEADS__OUTPUT="f_bn", MODEL__HEADS__PAP=1)
    torch.save({"model": model.state_dict()}, folder / "model.pth")
    (folder / "config.yaml").write_text(
        "MODEL: {META_ARCHITECTURE: NPLP, HEADS: {OUTPUT: f_bn, PAP: 1}, BACKBONE: {PRETRAIN_PATH: /etc}}"
    )
    write_sums(folder)
    monkeypatch.setenv("NPLP_ZOO", str(tmp_path / "zoo"))
    for name in (str(folder), "zoo://narrow"):
        source = recognise(name)
        assert source.weights == str(folder / "model.pth")
        assert source.embedding == "f_bn, 16 values: average pooling, a fully connected layer of 16, BN neck"
        assert "MODEL.BACKBONE.PRETRAIN_PATH" not in source.options
    (folder / "model.pth").write_bytes(b"altered")
    with pytest.raises(UserError, match="was altered"):
        recognise(str(folder))


def test_what_is_no_file_of_weights_is_named(tmp_path):
    (tmp_path / "page 人😀.pth").write_text("<!doctype html><html>")
    with pytest.raises(UserError, match="page 人😀.pth' cannot be read as weights: it is a web page"):
        recognise(str(tmp_path / "page 人😀.pth"))
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match="holds a list"):
        recognise(str(tmp_path / "list.pth"))
    for missing in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(UserError, match=r"do not exist|it is a folder"):
            recognise(str(missing))


def test_errors_name_the_option_to_set(tmp_path):
    agw = {**R50, "BACKBONE__WITH_NL": True, "HEADS__POOL_LAYER": GEM_P}
    path = save(fastreid(**agw), tmp_path / "agw.pth")
    source = recognise(path)
    for key, value, message in (
        (
            "MODEL.BACKBONE.WITH_NL",
            False,
            r"holds ResNet-50 with non-local.*set MODEL.BACKBONE.WITH_NL True,",
        ),
        ("MODEL.HEADS.PAP", 2, r"set MODEL.HEADS.PAP 1, MODEL.HEADS.OUTPUT f_bn, which keeps its own head"),
    ):
        with pytest.raises(UserError, match=message):
            build(source, **{key: value})
    path = save(torchreid_osnet(), tmp_path / "osnet.pth")
    with pytest.raises(UserError, match=r"set MODEL.HEADS.EMBEDDING_DIM 512, MODEL.HEADS.OUTPUT f_r"):
        build(recognise(path), **{"MODEL.HEADS.EMBEDDING_DIM": 64})


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet18"])
def test_timms_networks_give_their_own_features(tmp_path, name):
    sized = {"img_size": (64, 32)} if "vit" in name else {}
    network = timm.create_model(name, num_classes=1000, **sized).eval()
    path = save(Made(network.state_dict(), network), tmp_path / "timm.pth")
    source = recognise(path)
    timms = {"MODEL.BACKBONE.NAME": "build_timm_backbone", "MODEL.BACKBONE.DEPTH": name}
    model = build(source, **timms)
    images = model.preprocess_image(IMAGES)
    with torch.no_grad():
        features = network.forward_features(images)
        feature_map = model.backbone(images)
    if "vit" in name:
        features = features[:, 1:].transpose(1, 2).reshape(2, -1, 4, 2)
    torch.testing.assert_close(feature_map, features)
    torch.save({"model": model.state_dict()}, tmp_path / "ours.pth")
    again = build(recognise(str(tmp_path / "ours.pth")))
    # PAP and pixels are not in a checkpoint; the network is.
    assert torch.equal(again.backbone(images), feature_map)


def test_position_embeddings_are_interpolated_by_timm(tmp_path):
    network = timm.create_model("vit_tiny_patch16_224").eval()
    source = recognise(save(Made(network.state_dict(), network), tmp_path / "vit.pth"))
    model = build(source)
    sized = timm.create_model("vit_tiny_patch16_224", img_size=(64, 32))
    expected = checkpoint_filter_fn(network.state_dict(), sized)["pos_embed"]
    torch.testing.assert_close(model.backbone.network.pos_embed.data, expected)
