#!/usr/bin/env python
"""Measure how fast a bundle's programs embed images, as a ratio to torch in the same run.

    python benchmarks/deployment.py zoo/nplp_quickstart_R18 --output docs/results/deployment.json

The program of torch.export is among them with --trust alone: loading it runs what code the file holds.
Each round runs every program once on the same images, one after the other, so that what else the machine
does falls on all of them; the ratio is taken within the round and its median is shown with its quartiles.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate

from nplp.circumstances import circumstances, commit, package_versions
from nplp.engine.pipeline import load_trained
from nplp.export.converters import FORMATS
from nplp.export.inference import EmbeddingModel
from nplp.export.running import OnnxModel
from nplp.export.verification import bundle_config
from nplp.weights.zoo import Bundle, read_bundle

REFERENCE = "torch"
LEAST_SECONDS = 0.05
"""A measurement repeats its batch until it has taken this long."""


def programs_of(bundle: Bundle, threads: int, trust: bool) -> tuple[dict[str, Callable], tuple[int, int]]:
    """Return what embeds an array of images, by name, and the images' height and width."""
    cfg = bundle_config(bundle)
    height, width = cfg.INPUT.SIZE_TEST
    model = EmbeddingModel(load_trained(cfg)[0])
    runs: dict[str, Callable] = {REFERENCE: lambda images: model(*model.inputs(torch.from_numpy(images)))}
    for name, file in FORMATS.items():
        if file not in bundle.sums:
            continue
        if file.endswith(".onnx"):
            runs[name] = OnnxModel(bundle.path(file), threads).run
        elif trust:
            program = torch.export.load(bundle.path(file)).module()
            runs[name] = lambda images, program=program: program(*model.inputs(torch.from_numpy(images)))
    return runs, (height, width)


def seconds_of(run: Callable, images: np.ndarray) -> float:
    """Return the seconds of one batch, the mean of as many as fill the least time."""
    begin, count = time.perf_counter(), 0
    while True:
        run(images)
        count += 1
        elapsed = time.perf_counter() - begin
        if elapsed >= LEAST_SECONDS:
            return elapsed / count


@torch.no_grad()
def measure(runs: dict[str, Callable], images: np.ndarray, rounds: int) -> list[dict]:
    """Return for each program its images a second and its speed relative to the reference."""
    for run in runs.values():
        run(images)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            seconds[name].append(seconds_of(run, images))
    found = []
    for name, values in seconds.items():
        ratios = [base / value for base, value in zip(seconds[REFERENCE], values, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        found.append(
            {
                "program": name,
                "batch": len(images),
                "images_per_second": round(len(images) / statistics.median(values), 1),
                "speed": round(middle, 2),
                "quartiles": [round(low, 2), round(high, 2)],
            }
        )
    return found


def main() -> None:
    """Measure a bundle and print the table and its circumstances."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("bundle", type=Path, help="a bundle's folder")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64], help="default: 1 64")
    parser.add_argument("--rounds", type=int, default=15, help="default: 15")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: torch's")
    parser.add_argument("--trust", action="store_true", help="run the program of torch.export too")
    parser.add_argument("--output", type=Path, help="also write the figures there, as JSON")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    bundle = read_bundle(args.bundle)
    runs, size = programs_of(bundle, args.threads, args.trust)
    rng = np.random.default_rng(0)
    found = []
    for batch in args.batches:
        images = rng.integers(0, 256, (batch, *size, 3), dtype=np.uint8)
        found += measure(runs, images, args.rounds)
    losses = {name: program.get("mAP loss") for name, program in bundle.results()["programs"].items()}
    rows = [
        [
            row["program"],
            row["batch"],
            row["images_per_second"],
            f"{row['speed']:.2f} ({row['quartiles'][0]:.2f}-{row['quartiles'][1]:.2f})",
            "-" if losses.get(row["program"]) is None else f"{losses[row['program']]:+.2f}",
        ]
        for row in found
    ]
    headers = ["program", "batch", "images/s", "speed to torch", "lost mAP"]
    figures = {
        **circumstances(),
        "threads": args.threads,
        "commit": commit(),
        "versions": package_versions(["torch", "onnxruntime", "onnx"]),
        "bundle": bundle.name,
        "image": [*size],
    }
    table = tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)
    sys.stdout.write(f"{table}\n\n{json.dumps(figures, indent=2)}\n")
    if args.output is not None:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps({**figures, "measured": found}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
