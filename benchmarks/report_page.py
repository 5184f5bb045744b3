#!/usr/bin/env python
"""Measure how long the page of a long run takes and how large it is.

    python benchmarks/report_page.py --images 13000 --iterations 30

makes the files that such a run leaves (drawn features, labels and images, no training) and writes its page.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from nplp.circumstances import circumstances, commit
from nplp.metric_names import METRICS
from nplp.report.page import write_report

STAGES = ("direct_transfer", "startup", "final")
PEOPLE_IMAGES = 17
SAMPLE = 600
QUERIES = 3000


def write_images(folder: Path, count: int, rng: np.random.Generator) -> np.ndarray:
    """Write as many noisy images of 128 x 64 and return their paths."""
    folder.mkdir()
    paths = [folder / f"{number:06d}.jpg" for number in range(count)]
    for path in paths:
        small = Image.fromarray(rng.integers(0, 256, (16, 8, 3), dtype=np.uint8))
        small.resize((64, 128), Image.Resampling.BICUBIC).save(path, quality=90)
    return np.array([str(path) for path in paths])


def write_run(folder: Path, images: int, iterations: int) -> None:
    """Write the files of a run of so many images and iterations."""
    rng = np.random.default_rng(0)
    trace = folder / "trace"
    trace.mkdir()
    paths = write_images(folder / "images", images, rng)
    people = np.arange(images) // PEOPLE_IMAGES
    cameras = rng.integers(0, 6, images)
    np.savez_compressed(
        trace / "images.npz", paths=paths, cameras=cameras, identities=people, sample=np.arange(SAMPLE)
    )
    half, lines = iterations // 2, []
    for number in range(1, iterations + 1):
        startup = np.where(rng.random(images) < 0.2, -1, np.unique(people // 2, return_inverse=True)[1])
        labels = np.where(rng.random(images) < 0.1, -1, startup)
        clusters = int(startup.max()) + 1
        np.savez_compressed(
            trace / f"iteration_{number:04d}.npz",
            labels=labels,
            startup_labels=startup,
            self_assessment=rng.uniform(0.3, 1, clusters) if number > half else np.empty(0),
            noisy_clusters=np.arange(clusters // 10),
            epsilon=np.array([0.5, 0.25]),
        )
        shares = {key: float(rng.random()) for key in ("precision", "recall", "nmi", "mixed_noise")}
        line = {"iteration": number, "epsilon_e": 0.5, "epsilon_c": 0.25, "clusters": clusters, **shares}
        lines.append({**line, "outliers": 900, "Rank-1": 70.0 + number, "mAP": 50.0, "rules": []})
    for number in (1, half + 1, iterations):
        counts = rng.integers(0, 1000, (2, 2, 50))
        beyond = np.full((2, 2), 100000)
        edges, epsilon = np.linspace(0, 1, 51), np.array([0.5, 0.25])
        arrays = {"counts": counts, "beyond": beyond, "edges": edges, "epsilon": epsilon}
        np.savez_compressed(trace / f"distances_{number:04d}.npz", **arrays)
    centres = rng.normal(size=(int(people.max()) + 1, 1024))
    top = rng.integers(0, images, (QUERIES, 10))
    np.savez_compressed(
        trace / "test_images.npz",
        **{
            f"{side}_{key}": values
            for side, chosen in (("query", slice(0, QUERIES)), ("gallery", slice(None)))
            for key, values in (
                ("paths", paths[chosen]),
                ("identities", people[chosen]),
                ("cameras", cameras[chosen]),
            )
        },
    )
    metrics = dict.fromkeys(METRICS, 50.0)
    for stage in STAGES:
        features = centres[people[:SAMPLE]] + rng.normal(size=(SAMPLE, 1024))
        np.savez_compressed(trace / f"features_{stage}.npz", features=features.astype(np.float16))
        precision = rng.random(QUERIES)
        np.savez_compressed(trace / f"ranks_{stage}.npz", top=top, average_precision=precision)
    results = {**dict.fromkeys(STAGES, metrics), "seconds": {"training": 3600.0}}
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "pseudo_labels.jsonl").write_text(text, encoding="utf-8")
    steps = range(19, iterations * 600, 20)
    losses = [{"iteration": step, "loss_triplet": 0.3, "loss_cc": 2.0, "total_loss": 2.3} for step in steps]
    text = "".join(json.dumps(line) + "\n" for line in losses)
    (folder / "metrics.json").write_text(text, encoding="utf-8")
    (folder / "config.yaml").write_text(
        f"NPLP: {{ITERATIONS: {iterations}, STARTUP_ITERATIONS: {half}}}\n", encoding="utf-8"
    )


def main() -> None:
    """Write a run and its page, and print what that took."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--images", type=int, default=13000, help="default: 13000")
    parser.add_argument("--iterations", type=int, default=30, help="default: 30")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_run(folder, args.images, args.iterations)
        begin = time.perf_counter()
        page = write_report(folder)
        seconds = time.perf_counter() - begin
        figures = {
            **circumstances(),
            "commit": commit(),
            "images": args.images,
            "iterations": args.iterations,
            "seconds": round(seconds, 1),
            "megabytes": round(page.stat().st_size / 1e6, 2),
        }
    sys.stdout.write(f"{json.dumps(figures, indent=2)}\n")


if __name__ == "__main__":
    main()
