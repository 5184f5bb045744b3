"""Weights as people have them, loaded into a whole model: each form gives the original model's output."""

import logging
import re

import pytest
import torch
import torchvision

from nplp.engine.checkpoint import load_weights
from nplp.engine.pipeline import CLASSIFIER, NECK
from nplp.errors import UserError
from weight_forms import FORMS, IMAGES, embed, make_model, named, randomise, rounded, without

OSNET = {
    "MODEL__BACKBONE__NAME": "build_osnet_backbone",
    "MODEL__BACKBONE__DEPTH": "x0_25",
    "MODEL__BACKBONE__FEAT_DIM": 128,
    "MODEL__HEADS__FUSION": "concat",
}
RESNET = {
    "MODEL__BACKBONE__NAME": "build_resnet_backbone",
    "MODEL__BACKBONE__DEPTH": "18x",
    "MODEL__BACKBONE__FEAT_DIM": 512,
    "MODEL__HEADS__FUSION": "concat",
}
MOBILENET = {
    "MODEL__BACKBONE__NAME": "build_mobilenetv2_backbone",
    "MODEL__BACKBONE__DEPTH": "1.0x",
    "MODEL__BACKBONE__FEAT_DIM": 1280,
    "MODEL__HEADS__FUSION": "concat",
}


def load(model, path):
    load_weights(model, str(path), optional=CLASSIFIER, initial=NECK)


def line_of(caplog):
    [record] = [record for record in caplog.records if "tensors from" in record.getMessage()]
    assert record.name.startswith("nplp.")
    return record.getMessage()


def refusal(model, path):
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load(model, path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    return str(caught.value)


@pytest.fixture
def original():
    return make_model(1)


@pytest.mark.parametrize("form", FORMS)
def test_each_form_gives_the_model_back(original, tmp_path, caplog, form):
    write, name = FORMS[form]
    write(original.state_dict(), tmp_path / name)
    loaded = make_model(2)
    with caplog.at_level(logging.INFO):
        load(loaded, tmp_path / name)
    expected = rounded(original.state_dict(), form)
    for key, value in loaded.state_dict().items():
        if not key.startswith(CLASSIFIER) and "num_batches_tracked" not in key:
            assert torch.equal(value, expected[key]), key
    original.load_state_dict(expected)
    assert torch.equal(embed(loaded), embed(original))
    line = line_of(caplog)
    assert line.startswith("Loaded ")
    assert str(tmp_path / name) in line
    assert "initial values stay" not in line


def test_the_line_says_what_was_used_and_what_was_left(original, tmp_path, caplog):
    weights = {f"module.{key}": value for key, value in original.state_dict().items()}
    weights = {key: value for key, value in weights.items() if "neck" not in key}
    weights["module.heads.classifier.weight"] = torch.ones(751, 16)
    weights["module.pixel_mean"] = torch.tensor([123.675, 116.28, 103.53])
    path = tmp_path / "w.pth"
    torch.save({"state_dict": weights, "epoch": 3}, path)
    with caplog.at_level(logging.INFO):
        load(make_model(2), path)
    used = sum("heads.classifier" not in key and "pixel" not in key for key in weights)
    assert line_of(caplog) == (
        f"Loaded {used} of {len(weights)} tensors from {path} (under 'state_dict'; 'module.' taken off); "
        "left out: heads.classifier.weight (751 identities), pixel_mean; "
        "not in the file, initial values stay: heads.neck.* (4)"
    )


def torchreid_osnet(weights):
    """Return a backbone's weights with the head of torchreid's OSNet: the names of its body are the same."""
    head = {"fc.0.weight": torch.ones(512, 128), "fc.0.bias": torch.ones(512)}
    head.update({f"fc.1.{key}": torch.ones(512) for key in ("weight", "bias", "running_mean", "running_var")})
    head.update({"classifier.weight": torch.ones(751, 512), "classifier.bias": torch.ones(751)})
    body = {k.removeprefix("backbone."): v for k, v in weights.items() if k.startswith("backbone.")}
    return {f"module.{key}": value for key, value in {**body, **head}.items()}


def test_osnet_of_torchreid(tmp_path, caplog):
    original, loaded = make_model(1, **OSNET), make_model(2, **OSNET)
    path = tmp_path / "model.pth.tar-60"
    torch.save({"state_dict": torchreid_osnet(original.state_dict()), "rank1": 0.7, "epoch": 60}, path)
    with caplog.at_level(logging.INFO):
        load(loaded, path)
    assert torch.equal(embed(loaded), embed(original))
    line = line_of(caplog)
    assert "names of torchreid's OSNet x0_25" in line
    assert "left out: fc.* (6), classifier.* (751 identities)" in line


def test_a_backbone_is_no_source_model_for_a_hyper_network(tmp_path):
    original = make_model(1, **OSNET)
    torch.save(torchreid_osnet(original.state_dict()), tmp_path / "osnet.pth")
    message = refusal(make_model(2, **{**OSNET, "MODEL__HEADS__FUSION": "hn"}), tmp_path / "osnet.pth")
    assert "heads.hyper_network." in message
    assert "set MODEL.HEADS.FUSION concat" in message
    assert "MODEL.BACKBONE.PRETRAIN_PATH" in message


def test_resnet_of_torchvision(tmp_path, caplog):
    network = torchvision.models.resnet18(num_classes=9)
    randomise(network)
    torch.save(network.state_dict(), tmp_path / "resnet18.pth")
    loaded = make_model(2, **RESNET)
    with caplog.at_level(logging.INFO):
        load(loaded, tmp_path / "resnet18.pth")
    for key, value in network.state_dict().items():
        assert key.startswith("fc.") or torch.equal(loaded.state_dict()[f"backbone.{key}"], value)
    assert "names of torchvision's ResNet-18" in line_of(caplog)


@pytest.mark.parametrize("relu", [False, True])
def test_resnet_as_a_sequence(tmp_path, relu):
    network = torchvision.models.resnet18(num_classes=9)
    randomise(network)
    stem = [network.conv1, network.bn1, *([network.relu] if relu else []), network.maxpool]
    layers = [network.layer1, network.layer2, network.layer3, network.layer4]
    sequence = torch.nn.Sequential(*stem, *layers)
    weights = {f"module.base.{key}": value for key, value in sequence.state_dict().items()}
    weights.update({"module.feat_bn.weight": torch.ones(512), "module.classifier.weight": torch.ones(9, 512)})
    torch.save({"state_dict": weights}, tmp_path / "model_best.pth.tar")
    loaded = make_model(2, **RESNET)
    load(loaded, tmp_path / "model_best.pth.tar")
    for key, value in network.state_dict().items():
        assert key.startswith("fc.") or torch.equal(loaded.state_dict()[f"backbone.{key}"], value)


def test_mobilenet_of_torchvision(tmp_path):
    network = torchvision.models.mobilenet_v2(num_classes=9).eval()
    torch.save(network.state_dict(), tmp_path / "mobilenet.pth")
    loaded = make_model(2, **MOBILENET)
    load(loaded, tmp_path / "mobilenet.pth")
    assert torch.equal(loaded.backbone(IMAGES), network.features(IMAGES))


def test_a_head_of_an_old_fastreid(tmp_path):
    baseline = {
        "MODEL__META_ARCHITECTURE": "Baseline",
        "MODEL__HEADS__NAME": "EmbeddingHead",
        "MODEL__HEADS__WITH_BNNECK": True,
        "MODEL__HEADS__EMBEDDING_DIM": 0,
        "MODEL__LOSSES__NAME": ("CrossEntropyLoss",),
    }
    original, loaded = make_model(1, **baseline), make_model(2, **baseline)
    old = named(
        lambda key: key.replace("bottleneck.0", "bnneck").replace("heads.weight", "heads.classifier.weight")
    )
    old(original.state_dict(), tmp_path / "old.pth")
    load(loaded, tmp_path / "old.pth")
    assert torch.equal(embed(loaded), embed(original))


def resnet50(weights, path):
    torch.save(torchvision.models.resnet50().state_dict(), path)


def changed(key, value):
    def write(weights, path):
        torch.save({**weights, key: value(weights[key])}, path)

    return write


REFUSED = {
    "another network": (resnet50, r"it holds ResNet-50, the configuration asks for narrow ResNet-18 of 16"),
    "another shape": (
        changed("heads.hyper_network.fc.weight", lambda value: value[:, :5]),
        r"'heads\.hyper_network\.fc\.weight' is \(16, 5\) in the file and \(16, 48\) in the model",
    ),
    "one tensor too few": (without("stages.1.0.bn1.bias"), r"lacks 'backbone\.stages\.1\.0\.bn1\.bias'"),
    "one tensor too many": (
        named(str, backbone__attention__weight=torch.ones(2, 2)),
        r"it has 'backbone\.attention\.weight', which the model has not",
    ),
    "names of nothing known": (
        lambda weights, path: torch.save({"a.b": torch.ones(3), "c.d": torch.ones(4)}, path),
        r"none of the \d+ tensors of narrow .* are in it \(an unknown network, a\.b, c\.d\)",
    ),
    "no tensors": (lambda weights, path: torch.save({"epoch": 3}, path), "holds no weights, but epoch"),
    "an optimizer alone": (
        lambda weights, path: torch.save({"optimizer": {"a": torch.ones(2)}}, path),
        "holds no weights, but optimizer",
    ),
    "a list": (lambda weights, path: torch.save([1, 2], path), "holds a list"),
    "integers for weights": (
        changed("backbone.stem.0.weight", lambda value: value.to(torch.int8)),
        r"'backbone\.stem\.0\.weight' as int8",
    ),
    "a training that failed": (
        changed("backbone.stem.0.weight", lambda value: value * float("nan")),
        "infinite or not numbers",
    ),
    "two models under one name": (
        named(str, module__heads__neck__0__bias=torch.ones(16)),
        r"two different tensors for 'heads\.neck\.0\.bias'",
    ),
    "another normalisation": (
        named(str, pixel_mean=torch.tensor([0.485, 0.456, 0.406])),
        r"pixel_mean \[0\.485, 0\.456, 0\.406\].*set MODEL\.PIXEL_MEAN",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(original, tmp_path, kind):

    write, message = REFUSED[kind]
    write(original.state_dict(), tmp_path / "w.pth")
    found = refusal(make_model(2), tmp_path / "w.pth")
    assert re.search(message, found), found
