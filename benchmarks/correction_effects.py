#!/usr/bin/env python
"""Measure what correction (eqs. 6-9) does to the pseudo-labels of models at the end of their startup stage.

Takes folders of runs that `tools/reproduce.py` left, such as
logs/reproduce/synthetic/d2m/pap2/seed*/startup, whose last checkpoint is still there, and asks of each: do
the clusters with the lowest scores hold several people, and what does clustering them again remove?
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate
from torch.nn import functional as F

from nplp.circumstances import circumstances, commit
from nplp.clustering import estimate_pseudo_labels
from nplp.data.datasets import index_cameras, load_training_items
from nplp.data.extraction import extract_features
from nplp.engine.pipeline import load_trained
from nplp.engine.setup import load_config
from nplp.errors import UserError
from nplp_commands.parsing import OneLineParser, run_tool

FORMS = [(beta, outliers) for outliers in ("drop", "rejoin") for beta in (0.3, 0.5, 0.7, 0.8, 0.9)]
"""Beta, and what becomes of outliers."""
COLUMNS = {
    "people": "people in a noisy cluster",
    "people_elsewhere": "in another cluster",
    "touched": "images in noisy clusters, %",
    "dropped": "of these become outliers, %",
    "wrong_removed": "wrong pairs removed, %",
    "right_removed": "right pairs removed, %",
    "right_across": "of these across cameras, %",
    "across": "right pairs across cameras, %",
}


def pairs_of(labels: np.ndarray, identities: np.ndarray, cameras: np.ndarray) -> np.ndarray:
    """Return how many pairs within clusters are wrong, right, and right and of different cameras."""
    found = labels >= 0
    together = _count(labels[found])
    right = _count(labels[found], identities[found])
    near = _count(labels[found], identities[found], cameras[found])
    return np.array([together - right, right, right - near])


def _count(*keys: np.ndarray) -> int:
    """Return the number of pairs that agree in every key."""
    if not len(keys[0]):
        return 0
    sizes = np.unique(np.stack(keys, axis=1), axis=0, return_counts=True)[1]
    return int((sizes * (sizes - 1) // 2).sum())


def effects(
    startup: np.ndarray, labels: np.ndarray, noisy: np.ndarray, identities: np.ndarray, cameras: np.ndarray
) -> dict[str, float]:
    """Compare labels before and after correction.

    Args:
        startup: ``[N]`` labels before, -1 for outliers.
        labels: ``[N]`` labels after.
        noisy: ``[K]`` clusters of ``startup`` that were clustered again.
        identities: ``[N]`` integers.
        cameras: ``[N]`` integers.
    """
    touched = np.isin(startup, noisy)
    before, after = (pairs_of(each, identities, cameras) for each in (startup, labels))
    removed = before - after
    people = [len(np.unique(identities[startup == cluster])) for cluster in range(startup.max() + 1)]
    others = np.setdiff1d(np.arange(len(people)), noisy)
    return {
        "people": float(np.mean([people[cluster] for cluster in noisy])),
        "people_elsewhere": float(np.mean([people[cluster] for cluster in others])),
        "touched": 100 * float(touched.sum() / (startup >= 0).sum()),
        "dropped": 100 * float((labels[touched] < 0).mean()),
        "wrong_removed": 100 * removed[0] / before[0],
        "right_removed": 100 * removed[1] / before[1],
        "right_across": 100 * removed[2] / max(1, removed[1]),
        "across": 100 * before[2] / before[1],
    }


def measure(folder: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield the names of forms of correction and their effects on the model that a run ended with.

    Raises:
        UserError: if the folder holds no run with a checkpoint.
    """
    checkpoint = max(folder.glob("epoch_*.pth"), default=None)
    if checkpoint is None:
        raise UserError(
            f"{str(folder)!r} has no checkpoint: name the startup folders of tools/reproduce.py's runs"
        )
    options = ["MODEL.WEIGHTS", str(checkpoint)]
    cfg = load_config(argparse.Namespace(config_file=str(folder / "config.yaml"), opts=options))
    items = load_training_items(cfg)
    features = extract_features(cfg, load_trained(cfg)[0], items, "Features")
    features = F.normalize(features, dim=1) if cfg.NPLP.NORMALIZE else features
    cameras = index_cameras(items)
    identities = np.unique([str(item[1]) for item in items], return_inverse=True)[1]
    for beta, outliers in FORMS:
        found = estimate_pseudo_labels(
            features,
            cameras,
            alpha=cfg.NPLP.ALPHA,
            beta=beta,
            reclustered_outliers=outliers,
            min_samples=cfg.NPLP.MIN_SAMPLES,
            camera_centering=cfg.NPLP.CAMERA_CENTERING,
            giant_share=cfg.NPLP.RULES.GIANT_SHARE if cfg.NPLP.RULES.GIANT_CLUSTER == "lower" else None,
        )
        yield (
            f"beta {beta}, outliers {outliers}",
            effects(found.startup_labels, found.labels, found.noisy_clusters, identities, cameras),
        )


def build_parser() -> OneLineParser:
    """Return the parser."""
    parser = OneLineParser(prog="correction_effects", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="of runs of a startup stage")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="keep the figures there")
    return parser


def main(args: argparse.Namespace) -> None:
    """Measure every folder, and print the means over the runs of a setting."""
    torch.set_num_threads(1)
    runs = {"/".join(folder.parts[-5:]): dict(measure(folder)) for folder in args.folders}
    groups: dict[str, list[dict[str, dict[str, float]]]] = {}
    for name, run in runs.items():
        # Runs of one setting differ in the last folders but one and two: seed and stage.
        groups.setdefault("/".join(name.split("/")[:-2]), []).append(run)
    for name, group in groups.items():
        rows = [
            [form, *(np.mean([run[form][column] for run in group]) for column in COLUMNS)]
            for form in group[0]
        ]
        table = tabulate(rows, headers=["", *COLUMNS.values()], tablefmt="github", floatfmt=".1f")
        sys.stdout.write(f"{name}, {len(group)} runs\n\n{table}\n\n")
    if args.output:
        content = {**circumstances(), "commit": commit(), "runs": runs}
        args.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_tool(build_parser(), main)
