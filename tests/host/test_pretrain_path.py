"""MODEL.BACKBONE.PRETRAIN_PATH: every form of a file, for every backbone, loads or is refused."""

import logging
from pathlib import Path
from types import SimpleNamespace

import fastreid
import pytest
import torch
import torchvision
from fastreid.modeling.backbones import build_backbone
from fastreid.modeling.backbones.build import BACKBONE_REGISTRY

from nplp.errors import UserError
from nplp.host.weights import _reshape_for_transformer
from weight_forms import FORMS, IMAGES, make_cfg, make_model, randomise, rounded

BACKBONES = {
    "resnet": ("build_resnet_backbone", "18x"),
    "resnet ibn": ("build_resnet_backbone", "18x", "MODEL.BACKBONE.WITH_IBN", True),
    "osnet": ("build_osnet_backbone", "x0_25"),
    "osnet ibn": ("build_osnet_backbone", "x0_25", "MODEL.BACKBONE.WITH_IBN", True),
    "mobilenet": ("build_mobilenetv2_backbone", "0.5x"),
    "shufflenet": ("build_shufflenetv2_backbone", "1.0x"),
    "repvgg": ("build_repvgg_backbone", "A0"),
    "resnext": ("build_resnext_backbone", "50x"),
    "resnest": ("build_resnest_backbone", "50x"),
    "regnet": ("build_regnet_backbone", "200x"),
    "effnet": ("build_effnet_backbone", "b0"),
    "vit": ("build_vit_backbone", "small"),
    "narrow": ("build_narrow_resnet_backbone", "18x"),
}


@pytest.fixture(autouse=True)
def beside_the_toolbox(monkeypatch):
    """Work where the toolbox looks for two of its backbones' own files."""
    monkeypatch.chdir(Path(fastreid.__file__).parents[1])


def backbone_cfg(name, depth, *options, path=""):
    cfg = make_cfg(MODEL__BACKBONE__NAME=name, MODEL__BACKBONE__DEPTH=depth)
    cfg.merge_from_list([*options, "MODEL.BACKBONE.PRETRAIN", bool(path)])
    cfg.MODEL.BACKBONE.PRETRAIN_PATH = str(path)
    return cfg.freeze() or cfg


def line_of(caplog):
    [record] = [record for record in caplog.records if "tensors from" in record.getMessage()]
    assert record.name.startswith("nplp.")
    return record


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_a_whole_model_gives_its_backbone(tmp_path, caplog, form):
    original = make_model(1)
    write, name = FORMS[form]
    write(original.state_dict(), tmp_path / name)
    cfg = make_cfg(MODEL__BACKBONE__PRETRAIN=True, MODEL__BACKBONE__PRETRAIN_PATH=str(tmp_path / name))
    with caplog.at_level(logging.INFO):
        loaded = build_backbone(cfg).eval()
    original.load_state_dict(rounded(original.state_dict(), form))
    assert torch.equal(loaded(IMAGES / 255), original.backbone(IMAGES / 255))
    assert line_of(caplog).levelno == logging.INFO


LARGE = ("resnext", "resnest", "vit")


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.long) if kind in LARGE else kind for kind in BACKBONES]
)
def test_each_backbone_loads_its_own_weights_and_refuses_those_of_another(tmp_path, caplog, kind):
    path = tmp_path / "w.pth"
    original = build_backbone(backbone_cfg(*BACKBONES[kind]))
    randomise(original)
    torch.save({"state_dict": {f"module.{k}": v for k, v in original.state_dict().items()}}, path)
    with caplog.at_level(logging.INFO):
        loaded = build_backbone(backbone_cfg(*BACKBONES[kind], path=path))
    for key, value in original.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    count = len(original.state_dict())
    assert line_of(caplog).getMessage() == (
        f"Loaded {count} of {count} tensors from {path} (under 'state_dict'; 'module.' taken off)"
    )
    torch.save({"a.weight": torch.ones(3), "b.weight": torch.ones(3, 3)}, path)
    with pytest.raises(UserError, match=r"PRETRAIN_PATH: .*none of the .* tensors of .* are in it") as caught:
        build_backbone(backbone_cfg(*BACKBONES[kind], path=path))
    assert "\n" not in str(caught.value)


def test_weights_of_which_no_key_fits_are_refused(tmp_path):
    torch.save(torchvision.models.squeezenet1_0().state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match="1 of the 100 tensors of ResNet-18 are in it"):
        build_backbone(backbone_cfg("build_resnet_backbone", "18x", path=tmp_path / "w.pth"))


def test_another_depth_is_refused(tmp_path):
    torch.save(torchvision.models.resnet34().state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match="it holds ResNet-34, the configuration asks for ResNet-18"):
        build_backbone(backbone_cfg("build_resnet_backbone", "18x", path=tmp_path / "w.pth"))


def test_another_shape_is_refused(tmp_path):
    weights = torchvision.models.resnet18().state_dict()
    weights["conv1.weight"] = weights["conv1.weight"][:, :1]
    torch.save(weights, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"'conv1.weight' is \(64, 1, 7, 7\) in the file and \(64, 3, 7, 7\)"):
        build_backbone(backbone_cfg("build_resnet_backbone", "18x", path=tmp_path / "w.pth"))


def test_what_keeps_random_numbers_is_a_warning(tmp_path, caplog):
    weights = torchvision.models.resnet50().state_dict()
    torch.save(weights, tmp_path / "w.pth")
    options = ("MODEL.BACKBONE.WITH_NL", True)
    with caplog.at_level(logging.INFO):
        model = build_backbone(
            backbone_cfg("build_resnet_backbone", "50x", *options, path=tmp_path / "w.pth")
        )
    record = line_of(caplog)
    assert record.levelno == logging.WARNING
    assert "Loaded 318 of 320 tensors" in record.getMessage()
    assert "left out: fc.* (2)" in record.getMessage()
    assert "not in the file, initial values stay: NL_2.* (24), NL_3.* (36)" in record.getMessage()
    assert torch.equal(model.state_dict()["layer4.2.conv3.weight"], weights["layer4.2.conv3.weight"])


@pytest.mark.long
def test_positions_of_a_transformer_are_interpolated(tmp_path):
    small = ("build_vit_backbone", "small")
    square = build_backbone(backbone_cfg(*small, "INPUT.SIZE_TRAIN", [224, 224]))
    weights = {**square.state_dict(), "head.weight": torch.ones(9, 768)}
    torch.save({"model": weights}, tmp_path / "vit.pth")
    loaded = build_backbone(backbone_cfg(*small, "INPUT.SIZE_TRAIN", [256, 128], path=tmp_path / "vit.pth"))
    assert loaded.pos_embed.shape == (1, 1 + 16 * 8, 768)
    assert torch.equal(loaded.pos_embed[:, 0], square.pos_embed[:, 0])
    assert torch.equal(loaded.blocks[7].mlp.fc1.weight, square.blocks[7].mlp.fc1.weight)


@pytest.mark.parametrize(("tokens", "square"), [(1 + 9, True), (2 + 9, True), (1 + 11, False)])
def test_a_square_grid_of_positions_takes_another_form(tokens, square):
    model = SimpleNamespace(patch_embed=SimpleNamespace(num_y=4, num_x=2))
    positions, wanted = torch.rand(1, tokens, 6), torch.zeros(1, 1 + 8, 6)
    resized = _reshape_for_transformer(model, "pos_embed", positions, wanted)
    if not square:
        assert resized is positions
        return
    assert resized.shape == wanted.shape
    assert torch.equal(resized[:, 0], positions[:, 0])
    grid = positions[:, -9:].reshape(1, 3, 3, 6).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(grid, size=(4, 2), mode="bilinear")
    torch.testing.assert_close(resized[:, 1:], expected.flatten(2).transpose(1, 2))


def test_without_a_file_the_message_asks_for_one():
    cfg = make_cfg(MODEL__BACKBONE__NAME="build_mobilenetv2_backbone", MODEL__BACKBONE__DEPTH="0.1x")
    cfg.MODEL.BACKBONE.PRETRAIN = True
    with pytest.raises(UserError, match=r"PRETRAIN_PATH must name a file, as no ImageNet weights"):
        build_backbone(cfg)


def test_files_of_the_toolbox_that_are_not_found_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"build_regnet_backbone looks for 'fastreid/.*\.yaml'"):
        build_backbone(backbone_cfg("build_regnet_backbone", "200x"))


def test_the_random_numbers_are_those_without_the_bridge():
    torch.manual_seed(3)
    bridged = build_backbone(backbone_cfg("build_osnet_backbone", "x0_25"))
    torch.manual_seed(3)
    plain = BACKBONE_REGISTRY._obj_map["build_osnet_backbone"](backbone_cfg("build_osnet_backbone", "x0_25"))
    for key, value in plain.state_dict().items():
        assert torch.equal(bridged.state_dict()[key], value)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder of the toolbox's downloads."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


@pytest.mark.parametrize(
    ("name", "depth", "file"),
    [
        ("build_resnet_backbone", "18x", "resnet18-5c106cde.pth"),
        ("build_osnet_backbone", "x0_25", "osnet_x0_25_imagenet.pth"),
    ],
)
def test_published_weights_fit_or_are_refused(cache, caplog, name, depth, file):
    original = build_backbone(backbone_cfg(name, depth))
    randomise(original)
    cfg = make_cfg(MODEL__BACKBONE__NAME=name, MODEL__BACKBONE__DEPTH=depth, MODEL__BACKBONE__PRETRAIN=True)
    torch.save({**original.state_dict(), "classifier.weight": torch.ones(1000, 2)}, cache / file)
    with caplog.at_level(logging.INFO):
        loaded = build_backbone(cfg)
    for key, value in original.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    assert "left out: classifier.weight (1000 identities)" in line_of(caplog).getMessage()
    torch.save(torchvision.models.squeezenet1_0().state_dict(), cache / file)
    with pytest.raises(UserError, match=rf"^ImageNet weights .*{file}"):
        build_backbone(cfg)
    torch.save({**original.state_dict(), next(iter(original.state_dict())): torch.ones(5)}, cache / file)
    with pytest.raises(UserError, match="mageNet weights") as caught:
        build_backbone(cfg)
    assert "\n" not in str(caught.value)
