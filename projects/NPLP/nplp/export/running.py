"""Programs in the place of the model: run by onnxruntime or torch, and compared with it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nplp.errors import UserError, in_one_line
from nplp.export.inference import UNKNOWN_CAMERA, EmbeddingModel
from nplp.modeling.cameras import Cameras, read_names

__all__ = [
    "CAMERA",
    "CAMERAS",
    "IMAGES",
    "LEAST_COSINE",
    "OUTPUT",
    "OnnxModel",
    "agreement",
    "check_agreement",
]

IMAGES, CAMERA, OUTPUT = "images", "camera", "embedding"
"""Names of a program's inputs and output; the second input is there with camera statistics alone."""

CAMERAS = "cameras"
"""Of an ONNX program's metadata, the entry of its cameras' names: a JSON list in the order of their rows."""

LEAST_COSINE = 0.99999
"""Between the embeddings of torch and of a program in float32."""

ENDLESS = ("Loop", "Scan")
"""Operators that could run for ever, which no exported model needs."""

SAMPLES = (1, 7, 64)
"""Sizes of the batches of random images that programs are compared on."""


class OnnxModel(nn.Module):
    """An ONNX program in the place of the toolbox's model, to be evaluated like it.

    It may come from elsewhere: a program that reads other files, or that could run for ever, is not loaded.

    Args:
        path: the program.
        threads: of onnxruntime.

    Raises:
        UserError: if it is such a program, or onnxruntime cannot load it.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        super().__init__()
        import onnxruntime

        _check_graph(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.log_severity_level = 3
        self.path = path
        try:
            self.session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise _refused(self.path, error) from error
        self.cameras: Cameras | None = None
        if CAMERA in [given.name for given in self.session.get_inputs()]:
            self.cameras = Cameras()
            names = self.session.get_modelmeta().custom_metadata_map.get(CAMERAS, "")
            self.cameras.assign(read_names(names, f"{str(path)!r}"))

    def forward(self, batch: dict[str, Any]) -> torch.Tensor:
        """Return f_e [B, D] of ``batch["images"]`` [B, 3, H, W], whole numbers in 0..255.

        Where the program takes cameras, ``batch["cameras"]`` has their names; without it none is known.
        """
        images = batch["images"].permute(0, 2, 3, 1).to(torch.uint8).contiguous().numpy()
        rows = self.cameras.rows(batch.get("cameras"), len(images)).numpy() if self.cameras else None
        return torch.from_numpy(self.run(images, rows))

    def run(self, images: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
        """Return f_e [B, D] of ``images`` [B, H, W, 3] uint8.

        Args:
            images: [B, H, W, 3] uint8.
            rows: [B] int64, the rows of their cameras, where the program takes them; ``None``: none is known.

        Raises:
            UserError: if onnxruntime fails, for instance as the program takes something else.
        """
        given = {IMAGES: images}
        if self.cameras is not None:
            given[CAMERA] = np.full(len(images), UNKNOWN_CAMERA, np.int64) if rows is None else rows
        try:
            embedding: np.ndarray = self.session.run([OUTPUT], given)[0]
        except Exception as error:  # onnxruntime's errors share no other base
            raise _refused(self.path, error) from error
        return embedding


def _refused(path: Path, error: Exception) -> UserError:
    return UserError(f"{str(path)!r} cannot be run by onnxruntime ({in_one_line(error)}): export it again")


def _check_graph(path: Path) -> None:
    """Look at a program before it is run; a graph itself holds no code, and its operators are the library's.

    Raises:
        UserError: if it is no graph, keeps its weights in other files, or has a loop.
    """
    import onnx

    try:
        graph = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's error, whose module differs from version to version
        raise _refused(path, error) from error
    for part in _parts_of(graph):
        if isinstance(part, onnx.TensorProto) and (part.external_data or part.data_location):
            places = [entry.value for entry in part.external_data if entry.key == "location"]
            raise UserError(
                f"{str(path)!r} keeps {part.name!r:.40} in another file ({', '.join(places)!r:.80}) and "
                "would read whatever it names: export it again, as one file"
            )
        if isinstance(part, onnx.NodeProto) and part.op_type in ENDLESS:
            raise UserError(f"{str(path)!r} has a {part.op_type}, which may never end: export it again")


def _parts_of(message: Any) -> Iterator[Any]:
    """Yield a protobuf message and all that is in it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in (value,) if hasattr(value, "ListFields") else value:
                yield from _parts_of(part)


def agreement(first: np.ndarray, second: np.ndarray) -> float:
    """Return the least cosine between the rows of two arrays [N, D]; NaN where one is not finite."""
    a, b = (np.asarray(value, dtype=np.float64) for value in (first, second))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / np.where(lengths > 0, lengths, np.nan)).min())


@torch.no_grad()
def check_agreement(
    model: nn.Module, path: Path, size: tuple[int, int], crops: np.ndarray, noise: bool = True
) -> float:
    """Compare a program with the model that it was made from, on random and on real images.

    Where the model has statistics of cameras, each camera's row and an unknown camera are among the images.

    Args:
        model: gives f_e of images [B, 3, H, W] in 0..255, on the CPU.
        path: an ``.onnx`` or ``.pt2`` file; loading the latter runs code that it may hold.
        size: H and W.
        crops: real images [N, H, W, 3] uint8; there may be none.
        noise: whether to compare on random images too; where there are no crops they are used anyway.

    Returns:
        The least cosine between two embeddings of one image, over batches of 1, 7 and 64 random images, and
        the crops; NaN where an embedding is not finite.

    Raises:
        UserError: if an ONNX program cannot be run or has other cameras, or the embeddings another shape.
    """
    torch_model = EmbeddingModel(model)
    known = torch_model.cameras
    # Rows from -1 to K, of which the first and the last are an unknown camera's.
    rows = np.arange(UNKNOWN_CAMERA, len(known) + 1) if known is not None else np.empty(0, np.int64)
    rng = np.random.default_rng(0)
    batches = [_repeated(crops, len(rows))] if len(crops) else []
    if noise or not batches:
        counts = (*SAMPLES[:-1], max(SAMPLES[-1], len(rows)))
        batches += [rng.integers(0, 256, (count, *size, 3), dtype=np.uint8) for count in counts]
    run = _run_torch(path, torch_model) if path.suffix == ".pt2" else _run_onnx(path, torch_model)
    cosines = []
    for batch in batches:
        chosen = np.resize(rows, len(batch)) if known is not None else None
        expected = torch_model(*torch_model.inputs(torch.from_numpy(batch), chosen)).numpy()
        embedding = run(batch, chosen)
        if embedding.shape != expected.shape:
            raise UserError(
                f"{str(path)!r} gives {embedding.shape} for {len(batch)} images, the model {expected.shape}: "
                "export it again"
            )
        cosines.append(agreement(expected, embedding))
    # Not min, which passes over NaN.
    return float(np.min(cosines))


def _run_torch(path: Path, model: EmbeddingModel) -> Callable[[np.ndarray, np.ndarray | None], np.ndarray]:
    """Return what gives f_e [B, D] of images and rows by a program of ``torch.export``."""
    program = torch.export.load(path).module()
    return lambda images, rows: program(*model.inputs(torch.from_numpy(images), rows)).numpy()


def _run_onnx(path: Path, model: EmbeddingModel) -> Callable[[np.ndarray, np.ndarray | None], np.ndarray]:
    """Return what gives f_e [B, D] of images and rows by an ONNX program.

    Raises:
        UserError: if it cannot be run, or its cameras are not the model's.
    """
    program = OnnxModel(path)
    known = program.cameras.known if program.cameras is not None else None
    if known != model.cameras:
        raise UserError(f"{str(path)!r} has the cameras {known!r:.80}, the model others: export it again")
    return program.run


def _repeated(images: np.ndarray, count: int) -> np.ndarray:
    """Return images [N, H, W, 3], again from the first one on where there are fewer than ``count``."""
    return images[np.arange(max(count, len(images))) % len(images)]
