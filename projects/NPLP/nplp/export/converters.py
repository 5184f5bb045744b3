"""The model as a program: ONNX in float32, float16 and int8, and torch.export's.

Every program takes RGB ``images`` [batch, H, W, 3] uint8, as a decoder gives them, resized to
INPUT.SIZE_TEST (bicubic), and gives ``embedding`` [batch, D] float32, f_e. The normalisation is inside; the
batch's size is free.
Needs onnx, onnxscript and onnxruntime: ``pip install .[deploy]``.
"""

import io
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
from nplp.export.inference import EmbeddingModel
from nplp.export.running import IMAGES, OUTPUT

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
            f"ONNX needs {', '.join(missing)}, which is not installed: pip install -r "
            "requirements-deploy.txt, or choose --formats torch-export"
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


def _batch_is_free() -> dict[str, Any]:
    return {"dynamic_shapes": {IMAGES: {0: torch.export.Dim("batch")}}}


@torch.no_grad()
def export_onnx(model: nn.Module, size: tuple[int, int], path: Path) -> None:
    """Write a model as ONNX, checked by onnx, without the places of its source code.

    Args:
        model: gives f_e of images [B, 3, H, W] in 0..255, on the CPU.
        size: H and W.
        path: the file.
    """
    import onnx

    with _quiet():
        program = torch.onnx.export(
            EmbeddingModel(model),
            (_sample(size),),
            dynamo=True,
            input_names=[IMAGES],
            output_names=[OUTPUT],
            opset_version=OPSET,
            verbose=False,
            **_batch_is_free(),
        )
    assert program is not None
    graph = program.model_proto
    _forget_origin(graph)
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
    """Write an ONNX model with weights and activations in float16; input and output stay as they are."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with _quiet():
        graph = convert_float_to_float16(onnx.load(source), keep_io_types=True)
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

    path.parent.mkdir(parents=True, exist_ok=True)
    with _quiet():
        prepared = path.with_name(f"{path.name}.prepared")
        try:
            quantization.quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
            if calibration is None:
                quantization.quantize_dynamic(prepared, path, weight_type=quantization.QuantType.QUInt8)
            else:
                quantization.quantize_static(
                    prepared,
                    path,
                    _Calibration(calibration),
                    per_channel=True,
                    weight_type=quantization.QuantType.QInt8,
                )
        finally:
            prepared.unlink(missing_ok=True)
    graph = onnx.load(path)
    _forget_origin(graph)
    _write_onnx(graph, path)
    onnx.checker.check_model(str(path))


class _Calibration:
    """Hands images to the calibration, 32 at a time."""

    def __init__(self, images: np.ndarray) -> None:
        self._batches = iter(np.array_split(images, max(1, len(images) // 32)))

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch, None after the last one."""
        batch = next(self._batches, None)
        return None if batch is None else {IMAGES: batch}


@torch.no_grad()
def export_torch(model: nn.Module, size: tuple[int, int], path: Path) -> None:
    """Write a model as ``torch.export``'s program, for ``torch.export.load`` or AOTInductor.

    Args:
        model: gives f_e of images [B, 3, H, W] in 0..255, on the CPU.
        size: H and W.
        path: the file.
    """
    with _quiet():
        program = torch.export.export(EmbeddingModel(model), (_sample(size),), **_batch_is_free())
        for node in program.graph.nodes:
            for key in ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node", "torch_fn"):
                node.meta.pop(key, None)
        # Into memory first: the name of a file would become a part of its content.
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
    path.write_bytes(buffer.getvalue())
