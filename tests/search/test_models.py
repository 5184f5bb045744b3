"""Models of every kind that can be loaded, and files that are none."""

import json
import shutil

import numpy as np
import pytest
import torch
import yaml

from nplp.engine.pipeline import load_trained
from nplp.errors import UserError
from nplp.export.bundle import ExportOptions, export_bundle
from nplp.metric_names import METRICS
from nplp.search import load_model
from untrained import make_run


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """A zoo with the bundle of one untrained run."""
    folder = tmp_path_factory.mktemp("bundle_run")
    cfg = make_run(folder, seed=3)
    (folder / "results.json").write_text(json.dumps({"final": dict.fromkeys(METRICS, 50.0)}))
    options = ExportOptions("configs/NPLP/quickstart.yml", base=cfg, formats=(), evaluate=False)
    return export_bundle(cfg, tmp_path_factory.mktemp("zoo") / "tiny", options).folder.parent


def test_a_run_a_checkpoint_and_a_moved_one_are_the_same_model(run_folder, crops, tmp_path):
    moved = tmp_path / "moved é"
    shutil.copytree(run_folder, moved)
    features = load_model(run_folder).embed(crops)
    assert features.shape == (60, 32)
    assert features.dtype == np.float32
    for source in (str(moved), moved / "model_final.pth"):
        assert np.array_equal(load_model(source, device="cpu").embed(crops), features)


def test_averaged_weights_are_preferred(run_folder, tmp_path):
    other = tmp_path / "run"
    make_run(other, seed=1)
    shutil.copytree(run_folder, tmp_path / "both")
    shutil.copy(other / "model_final.pth", tmp_path / "both" / "model_final_ema.pth")
    found = load_model(tmp_path / "both")
    assert "model_final_ema.pth" in found.description
    assert np.array_equal(found.probe(), load_model(other).probe())


def test_a_bundle_by_folder_name_and_zoo_name(zoo, monkeypatch):
    monkeypatch.setenv("NPLP_ZOO", str(zoo))
    models = [
        load_model(source) for source in (zoo / "tiny", "zoo://tiny", "tiny", zoo / "tiny" / "model.pth")
    ]
    assert {model.description for model in models} == {"the bundle tiny"}
    assert all(np.array_equal(model.probe(), models[0].probe()) for model in models)


def test_the_model_is_the_one_that_evaluation_loads(camera_run):
    folder, cfg = camera_run
    model = load_trained(cfg)[0]
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (1, 32, 16, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = model(torch.from_numpy(picture).permute(0, 3, 1, 2).float().contiguous())[0].numpy()
    assert np.array_equal(load_model(folder).probe(), expected)


def test_settings_of_the_training_do_not_matter(run_folder, tmp_path):
    shutil.copytree(run_folder, tmp_path / "run")
    path = tmp_path / "run" / "config.yaml"
    content = yaml.safe_load(path.read_text())
    content["NPLP"]["A_KEY_OF_ANOTHER_VERSION"] = 1
    content["DATASETS"]["NAMES"] = ["SetThatIsNotHere"]
    content["MODEL"]["BACKBONE"]["PRETRAIN_PATH"] = "/nowhere/else.pth"
    path.write_text(yaml.safe_dump(content))
    assert np.array_equal(load_model(tmp_path / "run").probe(), load_model(run_folder).probe())


class Harm:
    def __reduce__(self):
        return (open, ("harm", "w"))


def write_code(folder):
    torch.save({"model": Harm()}, folder / "model_final.pth")


def write_tag(folder):
    (folder / "config.yaml").write_text("MODEL: !!python/object/apply:os.mkdir [harm]\n")


def tear(folder):
    content = (folder / "model_final.pth").read_bytes()
    (folder / "model_final.pth").write_bytes(content[: len(content) // 2])


def rename_backbone(folder):
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace("build_narrow_resnet_backbone", "build_nothing"))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (write_code, "would run code"),
        (write_tag, "damaged|describes no model"),
        (tear, "cannot be read as weights"),
        (rename_backbone, "there is nothing of that name here"),
        (lambda folder: (folder / "config.yaml").write_text("MODEL: 3"), "describes no model"),
        (lambda folder: (folder / "config.yaml").write_text("- a\n"), "is damaged"),
        (lambda folder: (folder / "model_final.pth").unlink(), "holds no model: a run that has ended leaves"),
    ],
)
def test_what_is_no_model_is_one_line(spoil, said, run_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run_folder, tmp_path / "run")
    spoil(tmp_path / "run")
    with pytest.raises(UserError, match=said) as error:
        load_model("run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "harm").exists()


def test_what_is_not_there_and_devices_that_are_not(tmp_path, run_folder):
    with pytest.raises(UserError, match="there is no model 'nothing'"):
        load_model("nothing")
    with pytest.raises(UserError, match="the zoo has no bundle 'nothing'"):
        load_model("zoo://nothing")
    with pytest.raises(UserError, match="device 'abacus' cannot be used"):
        load_model(run_folder, device="abacus")
    (tmp_path / "model.onnx").write_bytes(b"no program")
    with pytest.raises(UserError, match="cannot be run by onnxruntime"):
        load_model(tmp_path / "model.onnx")


def test_a_program_of_something_else_is_one_line(tmp_path):
    onnx = pytest.importorskip("onnx")
    given = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3])
    given_out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 3])
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "other", [given], [given_out])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(UserError, match="does not take images"):
        load_model(tmp_path / "other.onnx")
