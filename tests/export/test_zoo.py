"""Names in the zoo: resolved wherever weights are named, with their sums compared."""

import shutil

import pytest
import torch
from fastreid.config import get_cfg
from fastreid.engine.defaults import DefaultPredictor
from fastreid.modeling import build_model
from fastreid.utils.checkpoint import Checkpointer
from fastreid.utils.file_io import PathManager

import nplp
from nplp.engine.checkpoint import read_checkpoint
from nplp.engine.pipeline import evaluate_only, load_trained, run
from nplp.engine.setup import prepare_output
from nplp.errors import UserError
from nplp.host.zoo_paths import register_zoo
from nplp.weights.zoo import bundles_in, find_bundle, read_bundle, resolve_weights
from tiny import make_tiny_cfg


@pytest.fixture
def images():
    return torch.randint(0, 256, (5, 3, 32, 16), generator=torch.Generator().manual_seed(0)).float()


def toolbox_config(bundle, **keys):
    """Return the bundle's configuration the toolbox's own way."""
    cfg = get_cfg()
    nplp.add_nplp_config(cfg)
    cfg.merge_from_file(str(bundle.folder / "config.yaml"))
    cfg.MODEL.DEVICE = "cpu"
    return cfg


def test_the_toolbox_loads_it_and_gives_the_trainers_features(zoo, bundle, trained, images, caplog):
    cfg = toolbox_config(bundle)
    assert f"zoo://{bundle.name}" == cfg.MODEL.WEIGHTS
    model, _ = load_trained(trained)
    with torch.no_grad():
        expected = model(images.clone())
        built = build_model(cfg).eval()
        incompatible = Checkpointer(built).load(str(bundle.folder / "model.pth"))
        assert torch.equal(built(images.clone()), expected)
    assert incompatible == {}
    assert "not found" not in caplog.text
    assert torch.equal(DefaultPredictor(cfg)(images.clone()), expected)


def test_nothing_is_missing_and_nothing_is_left_over(bundle):
    model = build_model(toolbox_config(bundle))
    assert set(model.state_dict()) == set(read_checkpoint(str(bundle.folder / "model.pth"))["model"])


@pytest.mark.parametrize("weights", ["zoo://nplp_tiny_R18", "model.pth", "model.safetensors"])
def test_evaluation_takes_it_and_gives_the_recorded_numbers(zoo, bundle, trained, weights):
    cfg = trained.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = weights if weights.startswith("zoo") else str(bundle.folder / weights)
    assert evaluate_only(cfg) == pytest.approx(bundle.results()["final"])


def test_adaptation_starts_from_it(zoo, bundle, synthetic_root, tmp_path):
    cfg = make_tiny_cfg(
        synthetic_root,
        tmp_path,
        *("NPLP.SOURCE.WEIGHTS", f"zoo://{bundle.name}", "NPLP.ITERATIONS", 1),
    )
    prepare_output(cfg)
    results = run(cfg, cfg, resume=False)
    assert results["direct_transfer"] == pytest.approx(bundle.results()["final"])
    weights = torch.load(tmp_path / "model_final.pth", weights_only=True)["model"]
    assert any(key.startswith("heads.neck.") for key in weights)


def test_the_toolboxs_paths_know_the_zoo(zoo, bundle):
    register_zoo()
    name = f"zoo://{bundle.name}"
    assert PathManager.get_local_path(name) == str(bundle.folder / "model.pth")
    assert PathManager.exists(name)
    assert PathManager.isfile(name)
    assert not PathManager.exists("zoo://nothing")
    with PathManager.open(name, "rb") as file:
        assert file.read(2) == b"PK"
    with pytest.raises(UserError, match="can be read only"):
        PathManager.open(name, "wb")


def test_other_paths_are_left_alone():
    assert resolve_weights("logs/model_final.pth") == "logs/model_final.pth"


@pytest.mark.parametrize("name", ["nothing", "../nplp_tiny_R18", ""])
def test_an_unknown_name_is_one_line_with_those_there_are(zoo, bundle, name):
    with pytest.raises(UserError, match="the zoo has no bundle") as caught:
        read_checkpoint(f"zoo://{name}")
    assert bundle.name in str(caught.value)
    assert "NPLP_ZOO" in str(caught.value)


@pytest.fixture
def copied(bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("NPLP_ZOO", str(tmp_path))
    shutil.copytree(bundle.folder, tmp_path / bundle.name)
    return tmp_path / bundle.name


def test_altered_weights_are_refused_before_they_are_read(copied):
    content = bytearray((copied / "model.pth").read_bytes())
    content[len(content) // 2] ^= 1
    (copied / "model.pth").write_bytes(content)
    with pytest.raises(UserError, match="was altered") as caught:
        read_checkpoint(f"zoo://{copied.name}")
    assert "\n" not in str(caught.value)


def test_missing_weights_are_one_line(copied):
    (copied / "model.pth").unlink()
    with pytest.raises(UserError, match="No such file"):
        resolve_weights(f"zoo://{copied.name}")


@pytest.mark.parametrize("content", ["", "nonsense\n", "0" * 64 + "  ../../etc/passwd\n"])
def test_a_damaged_list_of_sums_is_one_line(copied, content):
    (copied / "SHA256SUMS").write_text(content)
    with pytest.raises(UserError, match="is damaged"):
        find_bundle(copied.name)


def test_a_folder_of_bundles_and_a_bundle_are_both_found(copied, tmp_path):
    assert [bundle.folder for bundle in bundles_in(tmp_path)] == [copied]
    assert [bundle.folder for bundle in bundles_in(copied)] == [copied]
    with pytest.raises(UserError, match="does not exist"):
        bundles_in(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no bundle"):
        bundles_in(tmp_path / "empty")
    with pytest.raises(UserError, match="is not a bundle"):
        read_bundle(tmp_path / "empty")
