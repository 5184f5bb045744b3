#!/usr/bin/env python
"""Measure what may be done about giant and dissolved clusters, by training on the quickstart's domains.

Giant clusters: ALPHA is 1.5 / 96, so that the first iterations chain most images together. Dissolved
clusters: the quickstart's ALPHA, half of the iterations with correction. Every alternative of a seed begins
with the same source model. Runs that have finished are not repeated.
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

from circumstances import circumstances, commit
from nplp.clustering import estimate
from nplp.clustering.dbscan import cluster
from nplp.clustering.distances import Distances
from nplp.clustering.giants import cluster_without_giants, is_giant
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


def just_below(distances: Distances, epsilon: float, min_samples: int, share: float) -> Labelled:
    """Lower epsilon by a tenth at a time to the first radius without a giant."""
    for step in range(41):
        labels = cluster(distances, epsilon * 0.9**step, min_samples)
        if not is_giant(labels, share).any():
            break
    return labels, epsilon * 0.9**step, "just below" if step else ""


GIANTS = ["NPLP.ALPHA", 1.5 / 96, "NPLP.ITERATIONS", 4, "NPLP.STARTUP_ITERATIONS", 4]
DISSOLVED = ["NPLP.ITERATIONS", 6, "NPLP.STARTUP_ITERATIONS", 3]
Alternative = tuple[str, Callable[..., Labelled], list]
ALTERNATIVES: dict[str, Alternative] = {
    "giant: as it is": ("giant-off", cluster_without_giants, [*GIANTS, "NPLP.RULES.GIANT_CLUSTER", "off"]),
    "giant: its images left out": ("giant-left-out", left_out, GIANTS),
    "giant: epsilon just low enough": ("giant-just-below", just_below, GIANTS),
    "giant: epsilon of the most clusters": ("giant-lower", cluster_without_giants, GIANTS),
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
        words = [str(word) for word in (*given, *options)]
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
