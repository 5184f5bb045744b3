#!/usr/bin/env python
"""Measure what may be done about giant and dissolved clusters, by training on the quickstart's domains.

Giant clusters: with an ALPHA of 1.5 / 96 the first iterations chain two thirds and more of all images
together, with 3 / 96 all but a few. Dissolved clusters: the quickstart's ALPHA, half of the iterations with
correction. Every alternative of a seed begins with the same source model. Runs that have finished are not
repeated.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
from tabulate import tabulate

from nplp.circumstances import circumstances, commit
from nplp.clustering import estimate
from nplp.clustering.dbscan import cluster
from nplp.clustering.giants import cluster_without_giants, is_giant
from nplp.clustering.sweep import Distances
from nplp.engine.pipeline import run
from nplp.engine.setup import base_config, load_config, prepare_output

CONFIG = str(Path(__file__).resolve().parents[1] / "configs" / "NPLP" / "quickstart.yml")
Labelled = tuple[np.ndarray, float, str]
COLUMNS = ("Rank-1", "mAP")


def left_out(distances: Distances, epsilon: float, min_samples: int, share: float) -> Labelled:
    """Leave the samples of giants out and change nothing else."""
    labels = cluster(distances, epsilon, min_samples)
    giant = np.flatnonzero(is_giant(labels, share))
    labels[np.isin(labels, giant)] = -1
    found = labels >= 0
    labels[found] = np.unique(labels[found], return_inverse=True)[1]
    return labels, epsilon, "left out" if len(giant) else ""


def most_clusters(distances: Distances, epsilon: float, min_samples: int, share: float) -> Labelled:
    """Lower epsilon where there is a giant to the radius, of those without one, of the most clusters."""
    labels = cluster(distances, epsilon, min_samples)
    if not is_giant(labels, share).any():
        return labels, epsilon, ""
    radii = [epsilon * 0.9**step for step in range(1, 41)]
    found = [(cluster(distances, radius, min_samples), radius) for radius in radii]
    without = [(labels, radius) for labels, radius in found if not is_giant(labels, share).any()]
    labels, radius = max(without, key=lambda one: one[0].max())
    return labels, radius, "lowered"


SHORT = ["NPLP.ITERATIONS", 4, "NPLP.STARTUP_ITERATIONS", 4]
LARGE, HUGE = (["NPLP.ALPHA", people / 96, *SHORT] for people in (1.5, 3.0))
DISSOLVED = ["NPLP.ITERATIONS", 6, "NPLP.STARTUP_ITERATIONS", 3]
Alternative = tuple[str, Callable[..., Labelled], list]
LOWER = ["NPLP.RULES.GIANT_CLUSTER", "lower", "NPLP.RULES.EQUAL_SCORES", "skip"]
OFF = ["NPLP.RULES.GIANT_CLUSTER", "off"]
MOST_OF_ALL = ["NPLP.RULES.GIANT_SHARE", 0.6]
ALTERNATIVES: dict[str, Alternative] = {
    "large alpha: as it is": ("giant-off", cluster_without_giants, [*LARGE, *OFF]),
    "large alpha: giant left out": ("giant-left-out", left_out, LARGE),
    "large alpha: epsilon lowered": ("giant-just-below", cluster_without_giants, LARGE),
    "large alpha: lowered from 60% on": ("giant-60", cluster_without_giants, [*LARGE, *MOST_OF_ALL]),
    "large alpha: epsilon of the most clusters": ("giant-lower", most_clusters, LARGE),
    "huge alpha: as it is": ("huge-off", cluster_without_giants, [*HUGE, *OFF]),
    "huge alpha: epsilon lowered": ("huge-just-below", cluster_without_giants, HUGE),
    "huge alpha: lowered from 60% on": ("huge-60", cluster_without_giants, [*HUGE, *MOST_OF_ALL]),
    "huge alpha: epsilon of the most clusters": ("huge-lower", most_clusters, HUGE),
    "dissolved: dropped": ("dissolved-drop", cluster_without_giants, [*DISSOLVED, "NPLP.DISSOLVED", "drop"]),
    "dissolved: kept": ("dissolved-keep", cluster_without_giants, [*DISSOLVED, "NPLP.DISSOLVED", "keep"]),
}


def outcome(name: str, seed: int, folder: Path) -> dict:
    """Return the metrics by stage and the history of one run, after running it if need be."""
    short, method, options = ALTERNATIVES[name]
    output = folder / f"{short}-seed{seed}"
    if not (output / "model_final.pth").exists():
        source = folder / f"quickstart-seed{seed}" / "source" / "model_final.pth"
        given = ["SEED", seed, "OUTPUT_DIR", output, "NPLP.SOURCE.WEIGHTS", source, "NPLP.EVAL_PERIOD", 0]
        words = [str(word) for word in (*given, *LOWER, *options)]
        cfg = load_config(argparse.Namespace(config_file=CONFIG, opts=words))
        prepare_output(cfg)
        with mock.patch.object(estimate, "cluster_without_giants", method):
            run(cfg, base_config(CONFIG), resume=True)
    lines = (output / "pseudo_labels.jsonl").read_text(encoding="utf-8").splitlines()
    results = json.loads((output / "results.json").read_text(encoding="utf-8"))
    return {**results, "iterations": [json.loads(line) for line in lines]}


def shown(values: list[float]) -> str:
    """Return mean ± sample standard deviation."""
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def row(name: str, runs: list[dict]) -> list[str]:
    """Return a row of the table: labels of the first and the last iteration, and the end."""
    cells = [name]
    for position in (0, -1):
        lines = [outcome["iterations"][position] for outcome in runs]
        cells += [shown([100 * line[key] for line in lines]) for key in ("precision", "recall")]
    return [*cells, *(shown([outcome["final"][metric] for outcome in runs]) for metric in COLUMNS)]


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("logs/seeds"),
        help="where the runs go, and where quickstart_seeds.py left the source models",
    )
    parser.add_argument("--output", type=Path, help="also write the figures there, as JSON")
    args = parser.parse_args()
    runs: dict[str, list[dict]] = {name: [] for name in ALTERNATIVES}
    for seed in args.seeds:
        for name in ALTERNATIVES:
            runs[name].append(outcome(name, seed, args.folder))
    headers = ["", "precision, first", "recall, first", "precision, last", "recall, last", *COLUMNS]
    rows = [row(name, found) for name, found in runs.items()]
    sys.stdout.write(tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True) + "\n")
    if args.output is not None:
        content = {**circumstances(), "commit": commit(), "seeds": args.seeds, "runs": runs}
        args.output.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
