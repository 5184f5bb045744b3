"""The script that embeds images without torch and the toolbox reads them as the model's evaluation does."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from nplp.data.checks import verify_images
from nplp.data.loaders import build_test_loader
from nplp.errors import UserError
from tiny import make_tiny_cfg

SCRIPT = Path(__file__).parents[2] / "tools" / "deploy" / "onnx_embed.py"
ORIENTATION = 0x0112
SIZE = (32, 16)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """A program whose embedding is the image itself: H x W x 3 floats."""
    path = tmp_path_factory.mktemp("program") / "model.onnx"
    write_program(path, [helper.make_node("Flatten", ["floats"], ["embedding"])])
    return path


@pytest.fixture(scope="module")
def script():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("onnx_embed", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_program(path, nodes, size=SIZE):
    nodes = [helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT), *nodes]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", *size, 3])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", None])
    graph = helper.make_graph(nodes, "graph", [images], [embedding])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)


def call(*words):
    """Run the script; return its code, what it showed and the most memory that it took, in MB."""
    program = (
        "import atexit, runpy, sys\n"
        "def peak():\n"
        "    lines = open('/proc/self/status').read().splitlines()\n"
        "    print([line for line in lines if line.startswith('VmHWM')][0], file=sys.stderr)\n"
        f"atexit.register(peak)\nsys.argv = ['onnx_embed.py', *sys.argv[1:]]\n"
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )
    *errors, memory = done.stderr.splitlines()
    return done.returncode, done.stdout, errors, int(memory.split()[1]) / 1024


def embedded(program, paths, tmp_path):
    code, _, errors, _ = call(program, *paths, "--output", tmp_path / "out.npy")
    assert (code, errors) == (0, [])
    return np.load(tmp_path / "out.npy").reshape(len(paths), *SIZE, 3)


def photograph(size=(50, 91)):
    """Return an image without symmetry, larger than the program's and of another shape."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


def write_kinds(folder):
    """Write images of every kind that training takes."""
    image = photograph()
    image.save(folder / "rgb.jpg")
    image.resize(SIZE[::-1]).save(folder / "size_of_the_program.png")
    for mode in ("L", "CMYK"):
        image.convert(mode).save(folder / f"{mode}.jpg")
    for mode in ("L", "1", "P", "LA", "RGBA"):
        image.convert(mode).save(folder / f"{mode}.png")
    image.convert("P").save(folder / "transparent.png", transparency=3)
    image.convert("P").save(folder / "animated.gif", save_all=True, append_images=[photograph((20, 20))])
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[ORIENTATION] = turn
        image.save(folder / f"turned_{turn}.jpg", exif=exif)
        image.save(folder / f"turned_{turn}.png", exif=exif)
    image.save(
        folder / "odd_exif.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0"
    )
    return sorted(folder.iterdir())


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_pixels_are_those_of_the_models_own_evaluation(program, synthetic_root, tmp_path):
    (tmp_path / "images").mkdir()
    paths = write_kinds(tmp_path / "images")
    cfg = make_tiny_cfg(synthetic_root, tmp_path / "run", "DATALOADER.NUM_WORKERS", 0)
    batches = build_test_loader(cfg, [(str(path), 0, 0) for path in paths])
    expected = np.concatenate([batch["images"].permute(0, 2, 3, 1).numpy() for batch in batches])
    found = embedded(program, paths, tmp_path)
    for path, ours, own in zip(paths, found, expected, strict=True):
        np.testing.assert_array_equal(ours, own, err_msg=path.name)


def write_faults(folder):
    """Write images of every kind that training refuses."""
    image = photograph()
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("text")
    image.save(folder / "whole.jpg")
    content = (folder / "whole.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(content[:-900])
    (folder / "whole.jpg").unlink()
    Image.fromarray(np.full((9, 9), 2000, np.uint16)).save(folder / "deep.png")
    Image.fromarray(np.full((9, 9), 0.5, np.float32)).save(folder / "floats.tif")
    Image.new("1", (20_000, 20_000)).save(folder / "bomb.png")
    return sorted(folder.iterdir())


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_training_refuses_is_refused_in_its_words(script, program, tmp_path):
    for path in write_faults(tmp_path):
        with pytest.raises(UserError) as caught:
            verify_images([str(path)], "the set")
        fault = str(caught.value).partition(f"{path.name} (")[2].rpartition("): replace")[0]
        assert script.fault_of(str(path)) == fault != ""
    path = tmp_path / "deep.png"
    code, shown, errors, _ = call(program, path, "--output", tmp_path / "out.npy")
    assert (code, shown) == (2, "")
    fault = "more than 8 bits a channel, convert it"
    assert errors == [f"onnx_embed: 1 of 1 images cannot be read: {path} ({fault}): replace or remove them"]
    assert not list(tmp_path.glob("out*"))


def test_a_bad_image_is_noticed_before_any_is_embedded(program, tmp_path):
    photograph().save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_text("text")
    code, _, (line,), _ = call(program, *[tmp_path / "good.png"] * 3, *[tmp_path / "bad.png"] * 7)
    assert code == 2
    assert "7 of 10 images cannot be read" in line
    assert "and 2 more" in line


def test_fifteen_hundred_images_are_compared_in_little_memory(tmp_path):
    """The differences of all pairs would take 1,500 x 1,500 x 384 numbers of 4 bytes, 3.5 GB."""
    write_program(
        tmp_path / "model.onnx", [helper.make_node("Flatten", ["floats"], ["embedding"])], size=(16, 8)
    )
    rng = np.random.default_rng(0)
    for number in range(30):
        Image.fromarray(rng.integers(0, 256, (16, 8, 3), dtype=np.uint8)).save(tmp_path / f"{number:02}.png")
    paths = sorted(tmp_path.glob("*.png")) * 50
    code, shown, errors, peak = call(tmp_path / "model.onnx", *paths)
    assert (code, errors) == (0, [])
    lines = [line.split("\t") for line in shown.splitlines()]
    assert [line[0] for line in lines] == [str(path) for path in paths]
    assert all(line[1:] == [f"{line[0]} 0.000"] * 5 for line in lines)
    assert peak < 400


def test_the_nearest_are_those_of_all_distances(script, monkeypatch):
    features = np.random.default_rng(0).integers(0, 4, (700, 3)).astype(np.float32)
    monkeypatch.setattr(script, "ROWS", 64)
    monkeypatch.setattr(script, "COLUMNS", 100)
    distances = np.linalg.norm(features[:, None] - features[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    expected = np.argsort(distances, axis=1, kind="stable")[:, :7]
    found = list(script.nearest(features, 7))
    np.testing.assert_array_equal([others for others, _ in found], expected)
    np.testing.assert_allclose(
        [values for _, values in found], np.take_along_axis(distances, expected, 1), atol=1e-6
    )
    ((others, _), _) = script.nearest(features[:2], 7)
    assert others.tolist() == [1]


def test_few_images_are_a_table_and_the_metric_is_the_models(program, tmp_path):
    first, second = np.zeros((*SIZE, 3), np.uint8), np.zeros((*SIZE, 3), np.uint8)
    first[0, 0], second[0, 0] = (4, 0, 0), (0, 3, 0)
    for name, pixels in (("a", first), ("b", second)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    assert call(program, *paths)[1].split() == ["0.000", "5.000", "5.000", "0.000"]
    assert call(program, *paths, "--metric", "cosine")[1].split() == ["0.000", "1.000", "1.000", "0.000"]
    shown = call(program, *paths, "--top", "1", "--metric", "cosine")[1]
    assert shown == f"{paths[0]}\t{paths[1]} 1.000\n{paths[1]}\t{paths[0]} 1.000\n"


def test_values_that_are_no_numbers_are_refused(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    nodes = [
        helper.make_node("Log", ["floats"], ["logs"]),
        helper.make_node("Flatten", ["logs"], ["embedding"]),
    ]
    write_program(tmp_path / "model.onnx", nodes)
    code, _, (line,), _ = call(tmp_path / "model.onnx", tmp_path / "a.png", "--output", tmp_path / "out.npy")
    assert code == 2
    assert "a.png" in line
    assert "no numbers" in line
    assert not list(tmp_path.glob("out*"))
