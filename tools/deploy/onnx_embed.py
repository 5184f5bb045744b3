#!/usr/bin/env python
"""Embed images of people with an exported model: needs onnxruntime, numpy and Pillow, nothing else.

    python tools/deploy/onnx_embed.py zoo/NAME/model.onnx a.jpg b.jpg --output embeddings.npy

writes [images, D] float32; without --output it prints the Euclidean distances between the images.
"""

import argparse
import sys

import numpy as np
import onnxruntime
from PIL import Image


def embed(session: onnxruntime.InferenceSession, paths: list[str], batch: int = 64) -> np.ndarray:
    """Return the embeddings [N, D] of image files."""
    _, height, width, _ = session.get_inputs()[0].shape
    read = [
        Image.open(path).convert("RGB").resize((width, height), Image.Resampling.BICUBIC) for path in paths
    ]
    images = np.stack([np.asarray(image) for image in read])
    parts = [session.run(None, {"images": images[i : i + batch]})[0] for i in range(0, len(images), batch)]
    return np.concatenate(parts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a .onnx file of a bundle")
    parser.add_argument("images", nargs="+", help="image files")
    parser.add_argument("--output", help="a .npy file")
    args = parser.parse_args()
    try:
        features = embed(onnxruntime.InferenceSession(args.model), args.images)
    except Exception as error:  # noqa: BLE001  onnxruntime's errors share no other base
        parser.exit(2, f"onnx_embed: {' '.join(str(error).split())}\n")
    if args.output:
        np.save(args.output, features)
    else:
        np.savetxt(sys.stdout, np.linalg.norm(features[:, None] - features[None], axis=2), fmt="%.3f")
