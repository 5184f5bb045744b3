#!/usr/bin/env python
"""Run quickstart and quickstart-plus over seeds and print the table that the README shows.

A run that has finished is not repeated, one that was stopped is resumed. Both configurations of a seed
start from the same source model.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from tabulate import tabulate

from nplp.circumstances import circumstances
from nplp.metric_names import METRICS, STAGES

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ("quickstart", "quickstart-plus")


def run(config: str, seed: int, folder: Path, source: Path | None) -> dict:
    """Return the content of one run's results.json, after running it if need be."""
    output = folder / f"{config}-seed{seed}"
    results = output / "results.json"
    if not (output / "model_final.pth").exists():
        command = [sys.executable, str(ROOT / "tools" / "train_net.py"), "--resume"]
        command += ["--config-file", str(ROOT / "configs" / "NPLP" / f"{config}.yml")]
        command += ["SEED", str(seed), "OUTPUT_DIR", str(output)]
        if source is not None:
            command += ["NPLP.SOURCE.WEIGHTS", str(source)]
        subprocess.run(command, check=True)
    return json.loads(results.read_text(encoding="utf-8"))


def row(config: str, stage: str, runs: list[dict]) -> list[str]:
    """Return a row of the table: mean ± sample standard deviation over the runs."""
    cells = []
    for metric in METRICS:
        values = [result[stage][metric] for result in runs]
        spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        cells.append(f"{statistics.mean(values):.1f}{spread}")
    return [config, STAGES[stage], *cells]


def main() -> None:
    """Run what is missing and print the table and its circumstances."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--folder", type=Path, default=Path("logs/seeds"), help="where the runs go")
    parser.add_argument("--output", type=Path, help="also write the figures there, as JSON")
    args = parser.parse_args()
    found: dict[str, list[dict]] = {config: [] for config in CONFIGS}
    for seed in args.seeds:
        for config in CONFIGS:
            first = args.folder / f"{CONFIGS[0]}-seed{seed}" / "source" / "model_final.pth"
            found[config].append(run(config, seed, args.folder, None if config == CONFIGS[0] else first))
    rows = [
        row(config, stage, runs) for config, runs in found.items() for stage in STAGES if stage in runs[0]
    ]
    table = tabulate(rows, headers=["", "", *METRICS], tablefmt="github", disable_numparse=True)
    gains = {
        config: [round(result["final"]["Rank-1"] - result["direct_transfer"]["Rank-1"], 1) for result in runs]
        for config, runs in found.items()
    }
    seconds = {
        config: [round(sum(result["seconds"].values())) for result in runs] for config, runs in found.items()
    }
    figures = {
        **circumstances(),
        "versions": found[CONFIGS[0]][0]["versions"],
        "seeds": args.seeds,
        "rank1_gain_over_direct_transfer": gains,
        "seconds": seconds,
    }
    sys.stdout.write(f"{table}\n\n{json.dumps(figures, indent=2)}\n")
    if args.output is not None:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        content = {**figures, "runs": found}
        args.output.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
