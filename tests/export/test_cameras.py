"""Bundles and programs of a model with statistics of cameras."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from fastreid.engine import DefaultPredictor
from safetensors.torch import load_file

from nplp.data.datasets import load_dataset
from nplp.data.loaders import build_test_loader
from nplp.engine.evaluating import evaluate
from nplp.engine.pipeline import load_trained, run
from nplp.engine.setup import load_config, prepare_output
from nplp.errors import UserError
from nplp.export.bundle import ExportOptions, export_bundle
from nplp.export.converters import FORMATS, export_float16, export_onnx
from nplp.export.inference import EmbeddingModel
from nplp.export.programs import target_crops
from nplp.export.running import LEAST_COSINE, OnnxModel, agreement, check_agreement
from nplp.export.verification import bundle_config, verify_bundle
from nplp.search import Index, load_model
from nplp.weights.zoo import CARD, SAFETENSORS, WEIGHTS, read_bundle
from tiny import make_tiny_cfg

SCRIPT = Path(__file__).parents[2] / "tools" / "deploy" / "onnx_embed.py"
SIZE = (32, 16)
NAMES = ("synthstation_0", "synthstation_1", "synthstation_2")
SUPPORTED = {
    "Cast",
    "Clip",
    "Div",
    "Expand",
    "Gather",
    "Greater",
    "Less",
    "Or",
    "ReduceL2",
    "Reshape",
    "Shape",
}
SUPPORTED |= {"Sub", "Where"}
"""What the correction uses of the operators that TensorRT's parser documents as supported."""


@pytest.fixture(scope="module")
def measured(synthetic_root, tmp_path_factory):
    """The configuration of a source model with statistics of the target's cameras."""
    folder = tmp_path_factory.mktemp("measured")
    pairs = ("NPLP.ITERATIONS", 0, "TEST.CAMERAS", "standardize")
    cfg = make_tiny_cfg(synthetic_root, folder, *pairs)
    prepare_output(cfg)
    run(cfg, cfg, resume=False)
    return cfg


@pytest.fixture(scope="module")
def bundle_of_cameras(measured, tmp_path_factory):
    """Its bundle with every program."""
    options = ExportOptions("configs/NPLP/quickstart.yml", base=measured, formats=tuple(FORMATS))
    return export_bundle(measured, tmp_path_factory.mktemp("zoo") / "cameras", options)


@pytest.fixture(scope="module")
def model(measured):
    return load_trained(measured)[0]


@pytest.fixture(scope="module")
def crops(measured):
    return target_crops(measured, [load_dataset(measured, "SynthStation")])[:12]


def embed(model, crops, cameras):
    with torch.no_grad():
        return model(
            {"images": torch.from_numpy(crops).permute(0, 3, 1, 2).float(), "cameras": cameras}
        ).numpy()


@pytest.mark.parametrize("row", [0, 1, 2, 3, -1, 99])
@pytest.mark.parametrize("name", ["onnx", "torch-export"])
def test_programs_agree_for_each_camera_and_for_unknown_ones(bundle_of_cameras, model, crops, row, name):
    expected = embed(model, crops, [NAMES[row] if 0 <= row < 3 else "nowhere"] * 12)
    rows = np.full(12, row)
    if name == "onnx":
        found = OnnxModel(bundle_of_cameras.folder / FORMATS[name]).run(crops, rows)
    else:
        program = torch.export.load(bundle_of_cameras.folder / FORMATS[name]).module()
        with torch.no_grad():
            found = program(torch.from_numpy(crops), torch.from_numpy(rows)).numpy()
    assert agreement(expected, found) >= LEAST_COSINE
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    other = embed(model, crops, [NAMES[1 if row == 0 else 0]] * 12)
    assert agreement(other, found) < 0.999


@pytest.mark.parametrize(
    ("name", "least"), [("float16", 0.999), ("int8-dynamic", 0.5), ("int8-calibrated", 0.5)]
)
def test_smaller_programs_agree_too(bundle_of_cameras, model, crops, name, least):
    """Without what is common to all features a cosine shows errors that are small beside it."""
    path = bundle_of_cameras.folder / FORMATS[name]
    assert check_agreement(model, path, SIZE, crops, noise=name == "float16") >= least


@pytest.mark.parametrize("name", ["int8-dynamic", "int8-calibrated"])
def test_statistics_are_not_rounded_to_bytes(bundle_of_cameras, model, crops, name):
    """Two cameras' embeddings of one image differ by what their statistics differ by."""
    program = OnnxModel(bundle_of_cameras.folder / FORMATS[name])
    ones, deviation = np.ones(12, np.int64), model.camera_statistics.deviation.numpy()
    first, second = program.run(crops, 0 * ones) * deviation[0], program.run(crops, ones) * deviation[1]
    expected = (model.camera_statistics.mean[1] - model.camera_statistics.mean[0]).numpy()
    np.testing.assert_allclose(first - second, np.tile(expected, (12, 1)), atol=2e-6)


def test_disagreement_in_one_row_is_found(bundle_of_cameras, measured, crops):
    model = load_trained(measured)[0]
    path = bundle_of_cameras.folder / "model.onnx"
    assert check_agreement(model, path, SIZE, crops[:1], noise=False) >= LEAST_COSINE
    for row in (2, 3):
        model.camera_statistics.mean[row] += 0.1
        assert check_agreement(model, path, SIZE, crops[:1], noise=False) < LEAST_COSINE
        model.camera_statistics.mean[row] -= 0.1
    model.cameras.assign(["others", *NAMES[1:]])
    with pytest.raises(UserError, match="has the cameras"):
        check_agreement(model, path, SIZE, crops[:1])


def test_a_program_takes_rows_that_any_client_can_fill(bundle_of_cameras):
    for name in ("onnx", "float16", "int8-dynamic", "int8-calibrated"):
        graph = onnx.load(bundle_of_cameras.folder / FORMATS[name])
        images, camera = graph.graph.input
        assert (images.name, camera.name) == ("images", "camera")
        assert camera.type.tensor_type.elem_type == onnx.TensorProto.INT64
        assert [size.dim_param for size in camera.type.tensor_type.shape.dim] == ["batch"]
        held = {entry.key: json.loads(entry.value) for entry in graph.metadata_props}
        assert held == {"cameras": [*NAMES]}
    plain = {"Add", "Concat", "Conv", "Gemm", "MaxPool", "ReduceMean", "Relu", "Slice", "Transpose"}
    graph = onnx.load(bundle_of_cameras.folder / "model.onnx")
    assert {node.op_type for node in graph.graph.node} <= SUPPORTED | plain


def test_the_bundle_says_which_row_is_whose(bundle_of_cameras):
    rows = {name: row for row, name in enumerate(NAMES)}
    assert bundle_of_cameras.results()["cameras"] == {"treatment": "standardize", "rows": rows, "unknown": -1}
    card = bundle_of_cameras.text(CARD)
    assert "## Cameras" in card
    assert all(f"| {row} | `{name}` |" in card for name, row in rows.items())
    assert "SynthPlaza (labelled), corrected for the cameras of SynthStation (unlabelled)" in card
    assert ",camera:1 " in card


def test_weights_in_both_forms_carry_the_statistics(bundle_of_cameras, measured):
    trained = torch.load(Path(measured.OUTPUT_DIR) / "model_final.pth", weights_only=True)["model"]
    keys = {"cameras.names", *(f"camera_statistics.{name}" for name in ("mean", "deviation", "count"))}
    held = torch.load(bundle_of_cameras.path(WEIGHTS), weights_only=True)["model"]
    for tensors in (held, load_file(bundle_of_cameras.path(SAFETENSORS))):
        assert keys <= tensors.keys()
        assert all(torch.equal(tensors[key], trained[key]) for key in keys)


def test_verification_measures_the_same(bundle_of_cameras):
    checks = list(verify_bundle(bundle_of_cameras, trust=True))
    assert [check.what for check in checks if not check.good] == []
    assert {"onnx", "torch-export", "metrics"} <= {check.what for check in checks}


def test_a_program_is_evaluated_with_the_test_sets_cameras(bundle_of_cameras, measured):
    data = load_dataset(measured, "SynthStation")
    metrics = evaluate(measured, OnnxModel(bundle_of_cameras.folder / "model.onnx"), [data])
    final = bundle_of_cameras.results()["final"]
    assert metrics == pytest.approx(final, abs=0.5)
    unknown = type(data)("Other", [], data.query, data.gallery)
    assert evaluate(measured, OnnxModel(bundle_of_cameras.folder / "model.onnx"), [unknown]) != metrics


def test_files_get_the_same_features_by_the_bundle_and_by_its_program(bundle_of_cameras, measured):
    """Of known cameras, of one that the model does not know, and without cameras."""
    paths = [path for path, _, _ in load_dataset(measured, "SynthStation").query[:8]]
    weights = load_model(bundle_of_cameras.folder)
    program = load_model(bundle_of_cameras.folder / "model.onnx")
    assert (weights.size, weights.dim) == (program.size, program.dim) == (SIZE, 32)
    assert weights.known_cameras == program.known_cameras == NAMES
    for cameras in ([*NAMES, "nowhere"] * 2, None):
        assert agreement(weights.embed(paths, cameras), program.embed(paths, cameras)) > LEAST_COSINE
    Index(weights.embed(paths), paths, model=weights).check_model(program)


def test_the_toolboxs_predictor_needs_no_camera(bundle_of_cameras, model, crops):
    embedder = DefaultPredictor(bundle_config(read_bundle(bundle_of_cameras.folder)))
    found = embedder(torch.from_numpy(crops).permute(0, 3, 1, 2).float()).numpy()
    np.testing.assert_allclose(found, embed(model, crops, ["nowhere"] * 12), rtol=1e-5, atol=1e-5)


def test_the_same_weights_give_the_same_bundle(bundle_of_cameras, measured, tmp_path):
    options = ExportOptions("configs/NPLP/quickstart.yml", base=measured)
    first, second = (export_bundle(measured, tmp_path / place / "cameras", options) for place in "ab")
    assert first.sums == second.sums
    assert first.sums["model.onnx"] == bundle_of_cameras.sums["model.onnx"]


def test_without_statistics_there_is_one_input(measured, tmp_path):
    """Where the switch is on and the weights have none, too."""
    model = load_trained(measured)[0]
    model.camera_statistics.load_state_dict({})
    export_onnx(model, SIZE, tmp_path / "model.onnx")
    export_float16(tmp_path / "model.onnx", tmp_path / "half.onnx")
    for name in ("model.onnx", "half.onnx"):
        graph = onnx.load(tmp_path / name)
        assert [given.name for given in graph.graph.input] == ["images"]
        assert not graph.metadata_props
    assert EmbeddingModel(model).cameras is None


def read(cfg, paths):
    """Return images as the model's evaluation reads them."""
    (batch,) = build_test_loader(cfg, [(path, 0, 0) for path in paths])
    return batch["images"].permute(0, 2, 3, 1).to(torch.uint8).numpy()


def call(program, paths, output, *words):
    words = [sys.executable, str(SCRIPT), str(program), *paths, "--output", str(output), *words]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_the_script_takes_a_cameras_name(bundle_of_cameras, measured, model, tmp_path, bundle):
    paths = [path for path, _, _ in load_dataset(measured, "SynthStation").query[:3]]
    images = read(measured, paths)
    program, output = bundle_of_cameras.folder / "model.onnx", tmp_path / "out.npy"
    for words, camera in ((("--camera", NAMES[1]), NAMES[1]), ((), "nowhere")):
        assert call(program, paths, output, *words).returncode == 0
        assert agreement(np.load(output), embed(model, images, [camera] * 3)) >= LEAST_COSINE
    done = call(program, paths, output, "--camera", "nowhere")
    assert done.returncode == 2
    assert done.stderr == (
        f"onnx_embed: --camera 'nowhere': the program knows {', '.join(NAMES)}: name one of them, or leave "
        "it out\n"
    )
    done = call(bundle.folder / "model.onnx", paths, output, "--camera", NAMES[1])
    assert done.returncode == 2
    assert "the program has no statistics of cameras" in done.stderr


def test_a_strangers_list_of_cameras_is_looked_at(bundle_of_cameras, tmp_path):
    graph = onnx.load(bundle_of_cameras.folder / "model.onnx")
    for text in ("[[", '["b", "a"]'):
        onnx.helper.set_model_props(graph, {"cameras": text})
        onnx.save(graph, tmp_path / "model.onnx")
        with pytest.raises(UserError, match="has no list of cameras that can be read"):
            OnnxModel(tmp_path / "model.onnx")


def test_a_bundles_configuration_names_a_known_treatment(bundle_of_cameras):
    assert bundle_config(bundle_of_cameras).TEST.CAMERAS == "standardize"
    with pytest.raises(UserError, match=r"TEST\.CAMERAS must be one of \('none', 'mean', 'standar"):
        load_config(
            argparse.Namespace(
                config_file=str(SCRIPT.parents[2] / "configs/NPLP/quickstart.yml"),
                opts=["TEST.CAMERAS", "both"],
            )
        )
