#!/usr/bin/env python
"""Embed images of people with an exported model: needs onnxruntime, numpy and Pillow, nothing else.

    python tools/deploy/onnx_embed.py zoo/NAME/model.onnx a.jpg b.jpg --output embeddings.npy

writes [images, D] float32, in the order of the images. Without --output it prints the distances between them;
from 21 images on, or with --top, a line an image with its nearest others. Images are read as for the model's
evaluation; what training refuses is refused here. Memory grows with the embeddings alone.

A model with statistics of cameras takes --camera NAME, the camera of all these images; without it the
overall statistics serve, as for a camera that it does not know. The model card has the names.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

BATCH = 64
MATRIX = 20
"""Images up to which all distances are printed."""
TOP = 5
UNKNOWN = -1
"""The row of a camera that the model does not know."""
ROWS, COLUMNS = 256, 4096
"""Images whose distances are computed at once, in about 50 MB."""


class RefusedError(ValueError):
    """An image that training refuses; the message is training's word for it."""


def read(path: str, size: tuple[int, int]) -> np.ndarray:
    """Return an image [H, W, 3] uint8: RGB, turned as its EXIF says, resized by the bicubic filter.

    Raises:
        RefusedError: if it is empty or holds more than bytes.
        Exception: of any kind, if it cannot be decoded.
    """
    if os.path.getsize(path) == 0:
        raise RefusedError("empty file")
    with Image.open(path) as image:
        if image.mode.startswith(("I", "F")):
            raise RefusedError("more than 8 bits a channel, convert it")
        # As in training, an EXIF block that makes no sense is passed over.
        with suppress(Exception):
            image = ImageOps.exif_transpose(image)
        return np.asarray(image.convert("RGB").resize(size[::-1], Image.Resampling.BICUBIC))


def fault_of(path: str) -> str:
    """Return why an image cannot be used, in the words of training; empty when it can."""
    try:
        read(path, (1, 1))
    except RefusedError as error:
        return str(error)
    except Image.DecompressionBombError:
        return "too many pixels"
    except Image.UnidentifiedImageError:
        return "not an image"
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  decoders of damaged files raise errors of every kind
        return f"damaged: {' '.join(str(error).split())[:80] or type(error).__name__}"
    return ""


def check(paths: list[str]) -> None:
    """Decode every image once, so that the last one does not cost the work on the others.

    Raises:
        ValueError: naming how many cannot be used, and the first of them.
    """
    faults = [f"{path} ({fault})" for path in paths if (fault := fault_of(path))]
    if faults:
        rest = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise ValueError(
            f"{len(faults)} of {len(paths)} images cannot be read: {', '.join(faults[:5])}{rest}: "
            "replace or remove them"
        )


def row_of(session: onnxruntime.InferenceSession, camera: str | None) -> int:
    """Return the row of a camera by its name, :data:`UNKNOWN` without one.

    Raises:
        ValueError: if the program knows no such camera.
    """
    if camera is None:
        return UNKNOWN
    names = json.loads(session.get_modelmeta().custom_metadata_map.get("cameras", "[]"))
    if camera not in names:
        known = (
            f"the program knows {', '.join(names)}" if names else "the program has no statistics of cameras"
        )
        raise ValueError(f"--camera {camera!r}: {known}: name one of them, or leave it out")
    return names.index(camera)


def embed(
    session: onnxruntime.InferenceSession, paths: list[str], batch: int = BATCH, camera: int = UNKNOWN
) -> np.ndarray:
    """Return the embeddings [N, D] float32 of image files.

    Args:
        session: the program.
        paths: of N images.
        batch: images at a time.
        camera: the row of the camera that took them, where the program takes one.

    Raises:
        ValueError: if the program takes something else than images, or gives what is no number.
    """
    given, *more = session.get_inputs()
    takes_camera = [(part.name, part.type) for part in more] == [("camera", "tensor(int64)")]
    known = len(given.shape) == 4 and (not more or takes_camera)
    height, width = given.shape[1:3] if known else (None, None)
    if given.type != "tensor(uint8)" or not isinstance(height, int) or not isinstance(width, int):
        raise ValueError(f"the program takes {given.type} {given.shape}, not uint8 images [N, H, W, 3]")
    parts = []
    for start in range(0, len(paths), batch):
        images = np.stack([read(path, (height, width)) for path in paths[start : start + batch]])
        cameras = {"camera": np.full(len(images), camera, np.int64)} if takes_camera else {}
        parts.append(session.run(None, {given.name: images, **cameras})[0])
        bad = np.flatnonzero(~np.isfinite(parts[-1]).all(axis=1))
        if bad.size:
            raise ValueError(
                f"{paths[start + bad[0]]!r} gets values that are no numbers: use another program"
            )
    return np.concatenate(parts)


def nearest(features: np.ndarray, top: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield, image by image, its ``top`` nearest others and their distances, the nearest first.

    Args:
        features: [N, D]; the distances are Euclidean.
        top: less where there are fewer others.
    """
    count = len(features)
    for start in range(0, count, ROWS):
        rows = features[start : start + ROWS].astype(np.float64)
        best, found = np.empty((len(rows), 0)), np.empty((len(rows), 0), dtype=np.int64)
        for first in range(0, count, COLUMNS):
            columns = features[first : first + COLUMNS].astype(np.float64)
            squares = (rows**2).sum(1)[:, None] + (columns**2).sum(1) - 2 * rows @ columns.T
            numbers = np.broadcast_to(np.arange(first, first + len(columns)), squares.shape)
            squares[numbers == np.arange(start, start + len(rows))[:, None]] = np.inf
            best, found = np.hstack([best, squares]), np.hstack([found, numbers])
            order = np.argsort(best, axis=1, kind="stable")[:, : min(top, count - 1)]
            best, found = np.take_along_axis(best, order, 1), np.take_along_axis(found, order, 1)
        yield from zip(found, np.sqrt(np.maximum(best, 0)), strict=True)


def show(paths: list[str], features: np.ndarray, top: int | None, metric: str) -> None:
    """Print all distances of a few images, and of more each one's nearest others."""
    cosine = metric == "cosine"
    if cosine:
        features = features / np.linalg.norm(features, axis=1, keepdims=True)
    if top is None and len(paths) <= MATRIX:
        exact = features.astype(np.float64)
        distances = np.stack([np.linalg.norm(exact - row, axis=1) for row in exact])
        np.savetxt(sys.stdout, distances**2 / 2 if cosine else distances, fmt="%.3f")
        return
    for path, (others, distances) in zip(paths, nearest(features, top or TOP), strict=True):
        # Of unit vectors, half the square is 1 less the cosine.
        shown = distances**2 / 2 if cosine else distances
        pairs = [f"{paths[i]} {distance:.3f}" for i, distance in zip(others, shown, strict=True)]
        sys.stdout.write("\t".join([path, *pairs]) + "\n")


def save(path: str, features: np.ndarray) -> None:
    """Write a .npy file whole or not at all."""
    path = path if path.endswith(".npy") else f"{path}.npy"
    part = f"{path}.part"
    try:
        with open(part, "wb") as file:
            np.save(file, features)
        os.replace(part, path)
    finally:
        if os.path.exists(part):
            os.remove(part)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a .onnx file of a bundle")
    parser.add_argument("images", nargs="+", help="image files")
    parser.add_argument("--output", help="a .npy file")
    parser.add_argument(
        "--metric",
        choices=("euclidean", "cosine"),
        default="euclidean",
        help="of the distances; the model card names the one that the model was measured with",
    )
    parser.add_argument("--top", type=int, metavar="K", help=f"print the K nearest others (default: {TOP})")
    parser.add_argument(
        "--camera", metavar="NAME", help="the camera that took the images, if the model knows it"
    )
    args = parser.parse_args()
    try:
        if args.top is not None and args.top < 1:
            raise ValueError(f"--top must be at least 1, got {args.top}")
        program = onnxruntime.InferenceSession(args.model, providers=["CPUExecutionProvider"])
        row = row_of(program, args.camera)
        check(args.images)
        vectors = embed(program, args.images, camera=row)
        if args.output:
            save(args.output, vectors)
        else:
            show(args.images, vectors, args.top, args.metric)
    except KeyboardInterrupt:
        parser.exit(130, "\nonnx_embed: stopped\n")
    except Exception as error:  # noqa: BLE001  onnxruntime's errors share no other base
        parser.exit(2, f"onnx_embed: {' '.join(str(error).split())}\n")
