"""The model as a program: ONNX in float32, float16 and int8, and torch.export's.

Every program takes RGB ``images`` [batch, H, W, 3] uint8, as a decoder gives them, resized to
INPUT.SIZE_TEST (bicubic), and gives ``embedding`` [batch, D] float32, f_e. The normalisation is inside; the
batch's size is free. Where the model has statistics of cameras a program also takes ``camera`` [batch] int64,
each image's row, -1 for a camera that is not known; an ONNX program's metadata has the names as a JSON list,
``cameras``.
Needs onnx, onnxscript and onnxruntime: ``pip install 'nplp[deploy]'``.
"""

import io
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nplp.errors import UserError
from nplp.export.inference import UNKNOWN_CAMERA, EmbeddingModel
from nplp.export.running import CAMERA, CAMERAS, IMAGES, OUTPUT

__all__ = ["FORMATS", "export_float16", "export_int8", "export_onnx", "export_torch", "require_packages"]

FORMATS = {
    "onnx": "model.onnx",
    "float16": "model_float16.onnx",
    "int8-dynamic": "model_int8_dynamic.onnx",
    "int8-calibrated": "model_int8_calibrated.onnx",
    "torch-export": "model.pt2",
}
"""File of each format in a bundle."""

OPSET = 18


def require_packages(formats: list[str]) -> None:
    """Check that what the formats need is installed.

    Raises:
        UserError: naming what is missing and how to install it.
    """
    if not set(formats) - {"torch-export"}:
        return
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise UserError(
            f"ONNX needs {', '.join(missing)}, which is not installed: pip install "
            "'nplp[deploy]', or choose --formats torch-export"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep exporters' progress reports and warnings about their own future off the screen."""
    names = ("torch.onnx", "onnxscript", "onnx_ir", "root")
    levels = [(logging.getLogger(name), logging.getLogger(name).level) for name in names]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for log, _ in levels:
            log.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for log, level in levels:
                log.setLevel(level)


def _sample(size: tuple[int, int]) -> torch.Tensor:
    """Return two grey images [2, H, W, 3]; with one, the exporter would fix the batch's size to it."""
    return torch.full((2, *size, 3), 127, dtype=torch.uint8)


def _batch_is_free(names: list[str]) -> dict[str, Any]:
    batch = torch.export.Dim("batch")
    return {"dynamic_shapes": {name: {0: batch} for name in names}}


def _names_of_inputs(model: EmbeddingModel) -> list[str]:
    return [IMAGES] if model.cameras is None else [IMAGES, CAMERA]


@torch.no_grad()
def export_onnx(model: nn.Module, size: tuple[int, int], path: Path) -> None:
    """Write a model as ONNX, checked by onnx, without the places of its source code.

    Args:
        model: gives f_e of images [B, 3, H, W] in 0..255, on the CPU.
        size: H and W.
        path: the file.
    """
    import onnx

    embedding = EmbeddingModel(model)
    names = _names_of_inputs(embedding)
    with _quiet():
        program = torch.onnx.export(
            embedding,
            embedding.inputs(_sample(size)),
            dynamo=True,
            input_names=names,
            output_names=[OUTPUT],
            opset_version=OPSET,
            verbose=False,
            **_batch_is_free(names),
        )
    assert program is not None
    graph = program.model_proto
    _forget_origin(graph)
    if embedding.cameras is not None:
        onnx.helper.set_model_props(graph, {CAMERAS: json.dumps(embedding.cameras)})
    _write_onnx(graph, path)
    onnx.checker.check_model(str(path), full_check=True)


def _forget_origin(graph: Any) -> None:
    """Drop the names of files and functions, which differ from machine to machine."""
    del graph.metadata_props[:]
    graph.graph.doc_string = graph.doc_string = ""
    for holder in (
        *graph.graph.node,
        *graph.graph.value_info,
        *graph.graph.input,
        *graph.graph.output,
        *graph.graph.initializer,
    ):
        holder.doc_string = ""
        if hasattr(holder, "metadata_props"):
            del holder.metadata_props[:]


def _write_onnx(graph: Any, path: Path) -> None:
    path.write_bytes(graph.SerializeToString(deterministic=True))


def export_float16(source: Path, path: Path) -> None:
    """Write an ONNX model with weights and activations in float16; input and output stay as they are.

    What corrects the embedding stays in float32.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    graph = onnx.load(source)
    corrections = _corrections(graph) or None
    with _quiet():
        graph = convert_float_to_float16(graph, keep_io_types=True, node_block_list=corrections)
        if corrections:
            # Around what stays casts are put at the end, where a graph must not have them, and the types that
            # were noted of it are wrong.
            OnnxModel(graph).topological_sort()
            del graph.graph.value_info[:]
    _write_onnx(graph, path)
    onnx.checker.check_model(str(path), full_check=True)


def export_int8(source: Path, path: Path, calibration: np.ndarray | None = None) -> None:
    """Write an ONNX model with weights in 8 bits, a scale for each output channel.

    Args:
        source: the model in float32.
        path: the file.
        calibration: images [N, H, W, 3] uint8 from which the ranges of the activations are taken once;
            ``None`` takes them from each input when the model runs.
    """
    import onnx
    from onnxruntime import quantization

    original = onnx.load(source)
    corrections, takes_cameras = _corrections(original), len(original.graph.input) > 1
    path.parent.mkdir(parents=True, exist_ok=True)
    with _quiet():
        prepared = path.with_name(f"{path.name}.prepared")
        try:
            quantization.quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
            if calibration is None:
                quantization.quantize_dynamic(
                    prepared,
                    path,
                    weight_type=quantization.QuantType.QUInt8,
                    nodes_to_exclude=corrections,
                )
            else:
                quantization.quantize_static(
                    prepared,
                    path,
                    _Calibration(calibration, takes_cameras),
                    per_channel=True,
                    nodes_to_exclude=corrections,
                    weight_type=quantization.QuantType.QInt8,
                )
        finally:
            prepared.unlink(missing_ok=True)
    graph = onnx.load(path)
    _forget_origin(graph)
    graph.metadata_props.extend(original.metadata_props)
    _write_onnx(graph, path)
    onnx.checker.check_model(str(path))


CORRECTION = {"Abs", "Cast", "Clip", "Div", "Expand", "Gather", "Greater", "Less", "Max", "Or", "Pow", "Sub"}
CORRECTION |= {"ReduceL2", "ReduceSum", "Reshape", "Shape", "Sqrt", "Unsqueeze", "Where"}
"""Operators of :class:`nplp.modeling.camera_statistics.CameraStatistics`, and of the look at the rows."""


def _corrections(graph: Any) -> list[str]:
    """Return the names of the nodes that correct the embedding, which are worth no fewer bits; none without.

    They are found from the program's output back to what computes the embedding.
    """
    if len(graph.graph.input) < 2:
        return []
    makers = {output: node for node in graph.graph.node for output in node.output}
    names: dict[str, None] = {}
    ahead = [OUTPUT]
    while ahead:
        node = makers.get(ahead.pop())
        if node is not None and node.op_type in CORRECTION and node.name not in names:
            names[node.name] = None
            ahead.extend(node.input)
    return list(names)


class _Calibration:
    """Hands images to the calibration, 32 at a time."""

    def __init__(self, images: np.ndarray, takes_cameras: bool) -> None:
        self._takes_cameras = takes_cameras
        self._batches = iter(np.array_split(images, max(1, len(images) // 32)))

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch, None after the last one."""
        batch = next(self._batches, None)
        if batch is None:
            return None
        cameras = {CAMERA: np.full(len(batch), UNKNOWN_CAMERA, np.int64)} if self._takes_cameras else {}
        return {IMAGES: batch, **cameras}


@torch.no_grad()
def export_torch(model: nn.Module, size: tuple[int, int], path: Path) -> None:
    """Write a model as ``torch.export``'s program, for ``torch.export.load`` or AOTInductor.

    Args:
        model: gives f_e of images [B, 3, H, W] in 0..255, on the CPU.
        size: H and W.
        path: the file.
    """
    embedding = EmbeddingModel(model)
    with _quiet():
        program = torch.export.export(
            embedding, embedding.inputs(_sample(size)), **_batch_is_free(_names_of_inputs(embedding))
        )
        for node in program.graph.nodes:
            for key in ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node", "torch_fn"):
                node.meta.pop(key, None)
        # Into memory first: the name of a file would become a part of its content.
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
    path.write_bytes(buffer.getvalue())
