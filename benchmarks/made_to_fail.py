#!/usr/bin/env python
"""Adapt to images that teach nothing, or little, and keep what the labels looked like and what came of it.

Takes a source model of configs/NPLP/reproduce/p2s.yml and adapts it to variants of the drawn station's
training images: pure noise, textures without people, cameras that are named wrongly, 24 images, and as they
are. The adapted model is evaluated on the station's own test images. A record is a line of
docs/results/verdict_runs.jsonl: numbers alone. benchmarks/verdicts.py reads it.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nplp.config import default_config
from nplp.data.datasets import Item, index_cameras, load_test_sets, load_training_items
from nplp.engine.output_folder import HISTORY, RESULTS
from nplp.engine.pipeline import run
from nplp.engine.setup import configure_logging, load_config
from nplp.errors import UserError
from nplp.files import read_json, read_json_lines, write_atomically
from nplp_commands.parsing import OneLineParser, run_tool
from verdict_records import keep, record_of

ROOT = Path(__file__).parents[1]
PAPER = ROOT / "configs/NPLP/reproduce/p2s.yml"
SIZE = (64, 32)
FEW = 24
IMAGES = 384
TESTED = 24
"""People of the test sets that are kept, for runs of a minute."""
PLUS = {
    "NPLP.CAMERA_CENTERING": True,
    "NPLP.EMA": True,
    "NPLP.EMA_DECAY": 0.99,
    "NPLP.EMA_LABELS": True,
    "NPLP.RULES.GIANT_CLUSTER": "lower",
    "NPLP.ALPHA": 0.0,
    "MODEL.NORM_CAMERAS": True,
    "MODEL.LOSSES.NAME": ("TripletLoss", "CenterContrastiveLoss", "CameraProxyLoss"),
    "TEST.CAMERAS": "mean",
    "TEST.METRIC": "cosine",
}
"""What ``nplp adapt`` sets."""

Row = tuple[str, int]
Kind = Callable[[list[Item], np.random.Generator, Path], list[Row]]


def as_they_are(items: list[Item], random: np.random.Generator, _: Path) -> list[Row]:
    """Return path and camera of a sample of the images."""
    chosen = random.choice(len(items), min(IMAGES, len(items)), replace=False)
    cameras = index_cameras(items)
    return [(items[number][0], int(cameras[number])) for number in sorted(chosen)]


def noise(_: list[Item], random: np.random.Generator, folder: Path) -> list[Row]:
    """Draw images whose every pixel is random."""
    pixels = random.integers(0, 256, (IMAGES, *SIZE, 3), dtype=np.uint8)
    return [(_save(picture, folder, number), number % 6) for number, picture in enumerate(pixels)]


def textures(_: list[Item], random: np.random.Generator, folder: Path) -> list[Row]:
    """Draw waves of two random colours, directions and lengths: each image is unlike all others."""
    rows = []
    down, across = np.mgrid[: SIZE[0], : SIZE[1]]
    for number in range(IMAGES):
        first, second = random.integers(0, 256, (2, 3))
        angle, length, start = random.uniform(0, np.pi), random.uniform(4, 40), random.uniform(0, 6)
        wave = np.sin((down * np.sin(angle) + across * np.cos(angle)) * 2 * np.pi / length + start)
        share = (wave[..., None] + 1) / 2
        rows.append(
            (_save((first * share + second * (1 - share)).astype(np.uint8), folder, number), number % 6)
        )
    return rows


def one_camera_as_another(items: list[Item], random: np.random.Generator, folder: Path) -> list[Row]:
    """Name the second camera's images as the first's."""
    return [(path, 0 if camera == 1 else camera) for path, camera in as_they_are(items, random, folder)]


def half_of_a_camera(items: list[Item], random: np.random.Generator, folder: Path) -> list[Row]:
    """Name half of the second camera's images as the first's, and half of the first's as the second's."""
    rows = as_they_are(items, random, folder)
    return [(path, 1 - camera if camera < 2 and random.random() < 0.5 else camera) for path, camera in rows]


def cameras_at_random(items: list[Item], random: np.random.Generator, folder: Path) -> list[Row]:
    """Name every image's camera at random."""
    return [(path, int(random.integers(6))) for path, _ in as_they_are(items, random, folder)]


def few_images(items: list[Item], random: np.random.Generator, _: Path) -> list[Row]:
    """Take the images of six people until there are 24."""
    people = random.permutation(sorted({item[1] for item in items}))[:6]
    cameras, rows = index_cameras(items), []
    for person in people:
        own = [number for number, item in enumerate(items) if item[1] == person]
        rows += [(items[number][0], int(cameras[number])) for number in random.permutation(own)[: FEW // 6]]
    return rows


KINDS: dict[str, Kind] = {
    "as_they_are": as_they_are,
    "noise": noise,
    "textures": textures,
    "one_camera_as_another": one_camera_as_another,
    "half_of_a_camera": half_of_a_camera,
    "cameras_at_random": cameras_at_random,
    "few_images": few_images,
}
SETTINGS: dict[str, dict[str, Any]] = {"paper": {}, "plus": PLUS}


def _save(pixels: np.ndarray, folder: Path, number: int) -> str:
    path = folder / f"{number:05d}.png"
    Image.fromarray(pixels).save(path)
    return str(path)


def adapt(
    source: Path, kind: str, settings: str, seed: int, iterations: int, scratch: Path
) -> dict[str, Any]:
    """Adapt to a variant of the station and return the record.

    Raises:
        UserError: if the adaptation itself refuses to go on, without a record.
    """
    original = _config(scratch / "none", {})
    folder = scratch / f"{kind}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    rows = KINDS[kind](load_training_items(original), np.random.default_rng(seed), folder)
    tests = load_test_sets(original)[0]
    lines = [f"{path},c{camera},,train" for path, camera in rows]
    people = sorted({item[1] for item in tests.query})[:TESTED]
    for split, items in (("query", tests.query), ("gallery", tests.gallery)):
        lines += [f"{item[0]},c{item[2]},{item[1]},{split}" for item in items if item[1] in people]
    table = folder / "images.csv"
    write_atomically(table, "path,camera,identity,split\n" + "\n".join(lines) + "\n")
    output = scratch / f"run-{kind}-{settings}-{seed}"
    own = {
        "DATASETS.NAMES": ("OwnImages",),
        "DATASETS.TESTS": ("OwnImages",),
        "DATASETS.OWN.SOURCE": str(table),
        "NPLP.SOURCE.WEIGHTS": str(source),
        "NPLP.ITERATIONS": iterations,
        "NPLP.STARTUP_ITERATIONS": iterations,
        "NPLP.STEPS_PER_EPOCH": 12,
        "NPLP.EVAL_PERIOD": 0,
        "NPLP.REPORT": False,
        "SEED": seed,
    }
    if len(rows) < 10 * 20:
        own.update({"NPLP.K1": 4, "NPLP.K2": 2})
    cfg = _config(output, {**SETTINGS[settings], **own})
    configure_logging(cfg)
    stopped = ""
    try:
        run(cfg, default_config(), resume=False, overwrite=True)
    except UserError as error:
        stopped = str(error)
    results = read_json(output / RESULTS, "run again") if (output / RESULTS).is_file() else {}
    history = read_json_lines(output / HISTORY)
    return record_of(f"made_to_fail/{kind}/{settings}/seed{seed}", len(rows), results, history, stopped)


def _config(output: Path, keys: dict[str, Any]) -> Any:
    words = [str(word) for pair in {**keys, "OUTPUT_DIR": output}.items() for word in pair]
    return load_config(argparse.Namespace(config_file=str(PAPER), opts=words))


def build_parser() -> OneLineParser:
    """Return the parser."""
    parser = OneLineParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", required=True, type=Path, help="model_final.pth of a source model")
    parser.add_argument("--scratch", required=True, type=Path, help="a folder for images and runs")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="default: all")
    parser.add_argument(
        "--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS), help="default: both"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="default: 0")
    parser.add_argument("--iterations", type=int, default=5, help="of each run (default: 5)")
    return parser


def main(args: argparse.Namespace) -> None:
    """Run all that is asked for, and keep each record when it is there."""
    for seed in args.seeds:
        for kind in args.kinds:
            for settings in args.settings:
                keep([adapt(args.source, kind, settings, seed, args.iterations, args.scratch)])


if __name__ == "__main__":
    sys.exit(run_tool(build_parser(), main))
