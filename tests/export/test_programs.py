"""Programs agree with the model, at any size of the batch, and run without torch and the toolbox."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from nplp.data.datasets import load_dataset
from nplp.data.loaders import build_test_loader
from nplp.engine.pipeline import load_trained
from nplp.engine.supervised import SupervisedTrainer
from nplp.errors import UserError
from nplp.export.converters import FORMATS, export_onnx, require_packages
from nplp.export.inference import EmbeddingModel
from nplp.export.programs import target_crops
from nplp.export.running import OnnxModel, agreement, check_agreement
from tiny import make_tiny_cfg

ROOT = Path(__file__).parents[2]
TENSORRT = {"Add", "Cast", "Concat", "Conv", "Div", "Gemm", "MaxPool", "ReduceMean", "Relu", "Slice", "Sub"}
TENSORRT |= {"Transpose"}
"""What the programs use of the operators that TensorRT's parser documents as supported."""


@pytest.fixture(scope="module")
def crops(trained):
    return target_crops(trained, [load_dataset(trained, "SynthStation")])


@pytest.mark.parametrize("batch", [1, 7, 64])
@pytest.mark.parametrize("kind", ["random", "real"])
def test_onnx_agrees_with_torch(bundle, trained, crops, batch, kind):
    model, _ = load_trained(trained)
    images = np.random.default_rng(batch).integers(0, 256, (batch, 32, 16, 3), dtype=np.uint8)
    if kind == "real":
        images = crops[:batch]
        assert len(images) == batch
    with torch.no_grad():
        expected = model(torch.from_numpy(images).permute(0, 3, 1, 2).float()).numpy()
    found = OnnxModel(bundle.folder / "model.onnx").run(images)
    assert found.shape == expected.shape == (batch, 32)
    assert found.dtype == np.float32
    cosines = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosines.min() >= 0.99999
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("name", "least"),
    [("torch-export", 0.99999), ("float16", 0.999), ("int8-dynamic", 0.97), ("int8-calibrated", 0.9)],
)
def test_the_other_programs_agree_too(bundle, trained, crops, name, least):
    model, _ = load_trained(trained)
    noise = not name.startswith("int8")
    cosine = check_agreement(model, bundle.folder / FORMATS[name], (32, 16), crops[:64], noise)
    assert cosine >= least
    assert cosine == pytest.approx(bundle.results()["programs"][name]["cosine"], abs=1e-3)


def test_crops_are_read_as_the_model_reads_them(trained, tmp_path, monkeypatch):
    """A photograph on its side is turned upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.random.default_rng(0).integers(0, 256, (20, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    items = [(str(tmp_path / "turned.png"), 0, 0)]
    monkeypatch.setattr("nplp.export.programs.load_training_items", lambda cfg: items)
    (batch,) = build_test_loader(trained, items)
    expected = batch["images"].permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(target_crops(trained, ["any"]), expected)


def test_smaller_numbers_make_smaller_files(bundle):
    sizes = {name: (bundle.folder / file).stat().st_size for name, file in FORMATS.items()}
    assert sizes["float16"] < 0.6 * sizes["onnx"]
    assert sizes["int8-dynamic"] < 0.35 * sizes["onnx"]
    assert sizes["int8-calibrated"] < 0.35 * sizes["onnx"]


def test_tensorrt_can_read_the_graph(bundle):
    """Operators that its parser supports, a free batch, and bytes that become floats before all else."""
    model = onnx.load(bundle.folder / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {node.op_type for node in model.graph.node} <= TENSORRT
    assert [node.op_type for node in model.graph.node if "images" in node.input] == ["Cast"]
    (images,) = model.graph.input
    assert images.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert [size.dim_value for size in images.type.tensor_type.shape.dim][1:] == [32, 16, 3]
    (embedding,) = model.graph.output
    assert embedding.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_the_exported_program_is_free_in_the_batch(bundle, trained):
    model, _ = load_trained(trained)
    program = torch.export.load(bundle.folder / "model.pt2").module()
    for batch in (1, 7):
        images = torch.randint(0, 256, (batch, 32, 16, 3), dtype=torch.uint8)
        with torch.no_grad():
            assert torch.allclose(program(images), EmbeddingModel(model)(images), rtol=1e-5, atol=1e-5)


def test_a_file_becomes_a_vector_without_torch_and_the_toolbox(bundle, trained, tmp_path):
    data = load_dataset(trained, "SynthStation")
    items = data.query[:3]
    script = str(ROOT / "tools" / "deploy" / "onnx_embed.py")
    # A name that is None in sys.modules cannot be imported.
    program = (
        "import runpy, sys\n"
        "for name in ('torch', 'torchvision', 'fastreid', 'nplp', 'onnx', 'cv2'): sys.modules[name] = None\n"
        f"sys.argv = ['onnx_embed.py', *sys.argv[1:]]\nrunpy.run_path({script!r}, run_name='__main__')"
    )
    output = tmp_path / "embeddings.npy"
    words = [str(bundle.folder / "model.onnx"), *(item[0] for item in items), "--output", str(output)]
    subprocess.run([sys.executable, "-c", program, *words], check=True)
    model, _ = load_trained(trained)
    with torch.no_grad():
        expected = torch.cat([model(batch) for batch in build_test_loader(trained, items)]).numpy()
    assert agreement(np.load(output), expected) >= 0.99999


def test_distances_are_shown_and_mistakes_are_one_line(bundle, trained, tmp_path):
    script = str(ROOT / "tools" / "deploy" / "onnx_embed.py")
    model = str(bundle.folder / "model.onnx")
    path = load_dataset(trained, "SynthStation").query[0][0]
    done = subprocess.run(
        [sys.executable, script, model, path, path], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["0.000"] * 4
    for words in ([model, "nowhere.jpg"], ["nowhere.onnx", path]):
        done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert len(done.stderr.strip().splitlines()) == 1
        assert "nowhere" in done.stderr


def test_agreement_is_the_least_cosine():
    first = np.array([[1.0, 0.0], [3.0, 4.0]])
    assert agreement(first, 2 * first) == pytest.approx(1)
    assert agreement(first, np.array([[0.0, 1.0], [3.0, 4.0]])) == pytest.approx(0)
    assert not agreement(first, np.zeros((2, 2))) >= 0.5
    assert not agreement(first, np.full((2, 2), np.nan)) >= 0.5


def test_a_program_that_disagrees_is_not_written(trained, tmp_path, monkeypatch):
    from nplp.export.bundle import ExportOptions, export_bundle

    monkeypatch.setattr("nplp.export.programs.check_agreement", lambda *_, **__: 0.9)
    options = ExportOptions("configs/NPLP/quickstart.yml", base=trained)
    with pytest.raises(UserError, match="differ from the model's"):
        export_bundle(trained, tmp_path / "bundle", options)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_installed_is_one_line(monkeypatch):
    monkeypatch.setattr("nplp.export.converters.find_spec", lambda name: None if name == "onnx" else name)
    require_packages(["torch-export"])
    with pytest.raises(UserError, match=r"ONNX needs onnx, which is not installed: pip install"):
        require_packages(["onnx"])


def test_a_damaged_program_is_one_line(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(UserError, match="cannot be run by onnxruntime"):
        OnnxModel(tmp_path / "model.onnx")


@pytest.mark.long
def test_the_papers_model_agrees(synthetic_root, tmp_path):
    """ResNet-50, 256 x 128, PAP-2 and a hyper-network of 1,024, with weights as they are initialised."""
    pairs = ("MODEL.BACKBONE.PRETRAIN", False, "MODEL.DEVICE", "cpu", "INPUT.SIZE_TEST", [256, 128])
    pairs += ("INPUT.SIZE_TRAIN", [256, 128], "MODEL.HEADS.EMBEDDING_DIM", 1024)
    cfg = make_tiny_cfg(synthetic_root, tmp_path, *pairs, config_file="configs/NPLP/d2m.yml")
    torch.manual_seed(0)
    model = SupervisedTrainer.build_model(cfg).eval()
    export_onnx(model, (256, 128), tmp_path / "model.onnx")
    assert check_agreement(model, tmp_path / "model.onnx", (256, 128), np.zeros((0, 256, 128, 3))) >= 0.99999
