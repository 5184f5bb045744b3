"""Bundles of strangers: what they hold runs no code, reads nothing else, and ends in a line."""

import io
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from onnx import TensorProto, helper

from nplp.errors import UserError
from nplp.export.running import OnnxModel, check_agreement
from nplp.export.verification import verify_bundle
from nplp.weights.zoo import bundles_in, read_bundle, write_sums


class Intruder:
    """Makes a file when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.fixture
def copied(bundle, tmp_path):
    shutil.copytree(bundle.folder, tmp_path / bundle.name)
    return tmp_path / bundle.name


def look(folder, **options):
    """Return the checks of a bundle without its metrics, by what was looked at."""
    return {check.what: check for check in verify_bundle(write_sums(folder), measure=False, **options)}


def smuggle(program, trace):
    """Put code among the sample inputs of a program of torch.export."""
    with zipfile.ZipFile(program) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    (inputs,) = (name for name in parts if "sample_inputs" in name)
    buffer = io.BytesIO()
    torch.save((Intruder(trace),), buffer)
    parts[inputs] = buffer.getvalue()
    with zipfile.ZipFile(program, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def test_a_program_that_may_hold_code_is_not_loaded_without_trust(copied, tmp_path):
    smuggle(copied / "model.pt2", tmp_path / "ran")
    check = look(copied)["torch-export"]
    assert check.good is None
    assert "not run" in check.found
    assert "--trust" in check.found
    assert not (tmp_path / "ran").exists()
    look(copied, trust=True)
    assert (tmp_path / "ran").exists()


def test_a_program_that_ends_in_an_error_is_bad_and_the_others_are_looked_at(copied):
    (copied / "model.pt2").write_bytes(b"nonsense")
    (copied / "model.onnx").write_bytes(b"nonsense")
    checks = look(copied, trust=True)
    assert checks["torch-export"].good is checks["onnx"].good is False
    assert checks["float16"].good is True
    assert all("\n" not in check.found for check in checks.values())


def test_nothing_is_drawn_into_a_folder_that_a_stranger_names(copied, tmp_path):
    content = yaml.safe_load((copied / "config.yaml").read_text())
    content["DATASETS"]["SYNTHETIC"].update(ROOT=str(tmp_path / "drawn"), TRAIN_IDENTITIES=99_999)
    (copied / "config.yaml").write_text(yaml.safe_dump(content))
    (*_, last) = verify_bundle(write_sums(copied))
    assert (last.what, last.good) == ("weights", False)
    assert "DATASETS.SYNTHETIC" in last.found
    assert not (tmp_path / "drawn").exists()


def test_a_model_that_cannot_be_built_is_one_line(copied):
    content = yaml.safe_load((copied / "config.yaml").read_text())
    content["MODEL"]["META_ARCHITECTURE"] = "Baseline"
    # Something of that name is in the toolbox's module, but no layer.
    content["MODEL"]["HEADS"].update(NAME="EmbeddingHead", POOL_LAYER="F")
    (copied / "config.yaml").write_text(yaml.safe_dump(content))
    check = look(copied)["weights"]
    assert check.good is False
    assert "cannot be built" in check.found


def write_graph(path, nodes, initializers=(), output=TensorProto.FLOAT):
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 32, 16, 3])
    embedding = helper.make_tensor_value_info("embedding", output, None)
    graph = helper.make_graph(nodes, "graph", [images], [embedding], list(initializers))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def outside(location):
    """Return a tensor whose content is in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.UINT8, dims=[3], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "3")):
        tensor.external_data.add(key=key, value=value)
    return tensor


@pytest.mark.parametrize("location", ["../../etc/passwd", "/etc/passwd", "README.md"])
@pytest.mark.parametrize("place", ["initializer", "attribute", "subgraph"])
def test_weights_in_other_files_are_not_read(tmp_path, location, place):
    (tmp_path / "README.md").write_text("own")
    weights = [outside(location)] if place == "initializer" else []
    constant = helper.make_node("Constant", [], ["w"], value=outside(location))
    first = [constant] if place == "attribute" else []
    nodes = [*first, helper.make_node("BitwiseXor", ["images", "w"], ["embedding"])]
    if place == "subgraph":
        result = helper.make_tensor_value_info("w", TensorProto.UINT8, [3])
        branch = helper.make_graph([constant], "branch", [], [result])
        yes = helper.make_node(
            "Constant", [], ["yes"], value=helper.make_tensor("t", TensorProto.BOOL, [], [True])
        )
        nodes = [yes, helper.make_node("If", ["yes"], ["w"], then_branch=branch, else_branch=branch), *nodes]
    path = write_graph(tmp_path / "model.onnx", nodes, weights, TensorProto.UINT8)
    with pytest.raises(UserError, match="in another file") as caught:
        OnnxModel(path)
    assert location in str(caught.value)


def test_a_loop_is_not_run(tmp_path):
    body = helper.make_graph([], "body", [], [])
    path = write_graph(tmp_path / "model.onnx", [helper.make_node("Loop", ["", ""], [], body=body)])
    with pytest.raises(UserError, match="has a Loop, which may never end"):
        OnnxModel(path)


class FirstPixel(torch.nn.Module):
    """Gives the first pixel of images [B, 3, H, W]."""

    def forward(self, images):
        return images[:, :, 0, 0]


def first_pixel(path, *last):
    """Write a program like :class:`FirstPixel`, with other nodes at its end."""
    numbers = {"start": [0, 0], "end": [1, 1], "axes": [1, 2], "shape": [-1, 3]}
    weights = [helper.make_tensor(name, TensorProto.INT64, [2], value) for name, value in numbers.items()]
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Slice", ["floats", "start", "end", "axes"], ["corner"]),
        helper.make_node("Reshape", ["corner", "shape"], ["pixel"]),
        *last,
    ]
    return write_graph(path, nodes, weights)


def test_one_value_that_is_no_number_counts_in_whatever_batch_it_is(tmp_path):
    identity = first_pixel(tmp_path / "same.onnx", helper.make_node("Identity", ["pixel"], ["embedding"]))
    crops = np.random.default_rng(0).integers(1, 256, (3, 32, 16, 3), dtype=np.uint8)
    assert check_agreement(FirstPixel(), identity, (32, 16), crops) == pytest.approx(1)
    # 0 x log(pixel - 254) is a number for 255 alone: for the crops, which come first, not for random images.
    crops[:, 0, 0] = 255
    nodes = [
        helper.make_node("Constant", [], ["most"], value_float=254.0),
        helper.make_node("Constant", [], ["none"], value_float=0.0),
        helper.make_node("Sub", ["pixel", "most"], ["less"]),
        helper.make_node("Log", ["less"], ["log"]),
        helper.make_node("Mul", ["log", "none"], ["nothing"]),
        helper.make_node("Add", ["pixel", "nothing"], ["embedding"]),
    ]
    faulty = first_pixel(tmp_path / "faulty.onnx", *nodes)
    assert check_agreement(FirstPixel(), faulty, (32, 16), crops, noise=False) == pytest.approx(1)
    assert not check_agreement(FirstPixel(), faulty, (32, 16), crops) >= 0


def test_embeddings_of_another_shape_are_refused(tmp_path):
    nodes = [helper.make_node("Concat", ["pixel", "pixel"], ["embedding"], axis=1)]
    path = first_pixel(tmp_path / "model.onnx", *nodes)
    with pytest.raises(UserError, match=r"gives \(1, 6\) for 1 images, the model \(1, 3\)"):
        check_agreement(FirstPixel(), path, (32, 16), np.zeros((0, 32, 16, 3), np.uint8))


def test_a_program_that_takes_something_else_is_one_line(tmp_path):
    path = write_graph(tmp_path / "model.onnx", [helper.make_node("Relu", ["pictures"], ["embedding"])])
    model = onnx.load(path)
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("pictures", TensorProto.FLOAT, [1]))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="cannot be run by onnxruntime"):
        OnnxModel(path).run(np.zeros((1, 32, 16, 3), np.uint8))


@pytest.fixture
def small(tmp_path):
    """A bundle of texts, for what is looked at before there is a model."""
    folder = tmp_path / "zoo" / "small"
    folder.mkdir(parents=True)
    (folder / "results.json").write_text("{}")
    (folder / "model.pth").write_bytes(b"weights")
    return write_sums(folder).folder


def test_links_pipes_and_giants_are_not_opened(small, tmp_path):
    (tmp_path / "secret").write_bytes(b"weights")
    path = small / "model.pth"
    path.unlink()
    path.symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match="is a link"):
        read_bundle(small).path("model.pth")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match="is no file"):
        read_bundle(small).path("model.pth")
    path.unlink()
    with path.open("wb") as file:
        file.truncate(2**34)
    with pytest.raises(UserError, match="17,179,869,184 bytes"):
        read_bundle(small).path("model.pth")
    with (small / "results.json").open("wb") as file:
        file.truncate(2**21)
    with pytest.raises(UserError, match="2,097,152 bytes"):
        read_bundle(small).results()


def test_a_list_of_sums_that_is_a_link_or_a_pipe_is_not_opened(small, tmp_path):
    sums = small / "SHA256SUMS"
    sums.rename(tmp_path / "elsewhere")
    sums.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is a link"):
        bundles_in(small.parent)
    sums.unlink()
    os.mkfifo(sums)
    with pytest.raises(UserError, match="is no file"):
        read_bundle(small)


@pytest.mark.parametrize("name", ["../model.pth", "a b", "\x1b[31mred", "-rf", ".hidden", "model.pth"])
def test_odd_names_in_a_list_of_sums_are_refused(small, name):
    with (small / "SHA256SUMS").open("a") as file:
        file.write(f"{'0' * 64}  {name}\n")
    with pytest.raises(UserError, match="is damaged"):
        read_bundle(small)


FINAL = {"Rank-1": 1.0, "Rank-5": 1.0, "Rank-10": 1.0, "mAP": 1.0, "mINP": 1.0}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "1",
        "[" * 100_000,
        '{"final": []}',
        '{"final": {}}',
        json.dumps({"final": {**FINAL, "mAP": "1"}}),
        json.dumps({"final": {**FINAL, "mAP": float("nan")}}),
        json.dumps({"final": {**FINAL, "mAP": 10**400}}),
        json.dumps({"final": FINAL, "programs": ["onnx"]}),
        json.dumps({"final": FINAL, "programs": {"onnx": 1}}),
        json.dumps({"final": FINAL, "programs": {"onnx": {"cosine": "1"}}}),
    ],
)
def test_results_of_another_shape_are_one_line(small, content):
    (small / "results.json").write_text(content)
    with pytest.raises(UserError, match="is no record of results|is damaged") as caught:
        write_sums(small).results()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_text_that_is_none_is_one_line(small):
    (small / "README.md").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="it is not text in UTF-8"):
        write_sums(small).text("README.md")
