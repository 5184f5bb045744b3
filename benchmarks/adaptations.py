"""What `nplp adapt` gains on real people, by its defaults alone: PKU-Reid, half of its people a target.

Each split of the people is a task of its own: one half without identities is adapted to, and the other half
gives the figures. With --people the true number is given, in place of alpha from the features.

Usage: python benchmarks/adaptations.py --weights datasets/weights/osnet_x0_25_msmt17.pth --splits 2 3 4 5
       [--people] [--folder logs/adaptations] [--out docs/results/adaptations.json] [--page docs/adapt.md]
       [KEY VALUE ...]

The table goes into the page, between its marks. What is finished in --folder is not run again, and a run that
was stopped goes on.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from tabulate import tabulate

from nplp.adapt.request import Request
from nplp.adapt.run import Products, adapt, resume
from nplp.circumstances import circumstances, package_versions
from nplp.files import read_json, write_atomically
from page_part import write_part

DATA = "PKUReid"
STAGES = ("direct_transfer", "final", "final_ema")
METRICS = ("Rank-1", "mAP")
PEOPLE = 37
"""Of a half."""
DEFAULTS, TRUE_PEOPLE = "defaults", "alpha by the true number of people"
BEGIN = "<!-- adaptations -->"


def run_split(arguments: argparse.Namespace, split: int) -> dict[str, Any]:
    """Adapt to one half of the people; return the metrics by stage, and what the labels were like."""
    folder = arguments.folder / f"split{split}{'_people' if arguments.people else ''}"
    if (folder / "results.json").is_file() and "final" in read_json(folder / "results.json", "remove it"):
        sys.stdout.write(f"{folder}: finished before\n")
    elif (folder / "last_checkpoint").is_file():
        resume(str(folder), [], Products(onnx=False, index=False))
    else:
        options = ("SEED", str(split), "DATASETS.PKU.SPLIT", str(split), "NPLP.REPORT", "False")
        people = PEOPLE if arguments.people else 0
        request = Request(
            DATA, str(arguments.weights), str(folder), people=people, options=(*options, *arguments.pairs)
        )
        adapt(request, Products(onnx=False, index=False))
    results = read_json(folder / "results.json", "run again")
    lines = (folder / "pseudo_labels.jsonl").read_text(encoding="utf-8").splitlines()
    last = json.loads(lines[-1])
    found = {stage: {key: round(results[stage][key], 2) for key in METRICS} for stage in STAGES}
    labels = {
        key: last[key] for key in ("clusters", "outliers", "precision", "recall", "cross_camera_recall")
    }
    seconds = round(sum(results["seconds"].values()))
    return {"split": split, **found, "iterations": len(lines), "labels": labels, "seconds": seconds}


def page_table(kept: dict[str, Any]) -> str:
    """Return the table of Rank-1 and mAP as Markdown."""
    rows = []
    for name in (DEFAULTS, TRUE_PEOPLE):
        splits = kept.get(name, {}).get("splits", [])
        if not splits:
            continue
        if not rows:
            rows.append(
                ["direct transfer", *(_of(splits, "direct_transfer", key) for key in METRICS), len(splits)]
            )
        rows.append(
            [f"`nplp adapt`, {name}", *(_of(splits, "final_ema", key) for key in METRICS), len(splits)]
        )
    return tabulate(rows, headers=["", *METRICS, "splits"], tablefmt="github", disable_numparse=True)


def _of(splits: list[dict[str, Any]], stage: str, key: str) -> str:
    return interval([row[stage][key] for row in splits])


def interval(values: list[float]) -> str:
    """Return the mean and the 95% interval of Student's t, over the splits."""
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values) if len(values) > 1 else float("nan")
    return f"{np.mean(values):.1f} ± {half:.1f}"


def main() -> None:
    """Adapt to each split, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--splits", type=int, nargs="+", required=True)
    parser.add_argument("--people", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path("logs/adaptations"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/adaptations.json"))
    parser.add_argument("--page", type=Path, default=Path("docs/adapt.md"))
    parser.add_argument("pairs", nargs="*", help="KEY VALUE pairs")
    arguments = parser.parse_args()
    rows = [run_split(arguments, split) for split in arguments.splits]
    name = TRUE_PEOPLE if arguments.people else DEFAULTS
    kept = read_json(arguments.out, "remove it") if arguments.out.is_file() else {}
    kept.setdefault("what", "nplp adapt on half of PKU-Reid's people, figures of the other half, percent")
    kept[name] = {
        "weights": arguments.weights.name,
        "options": arguments.pairs,
        "splits": rows,
        **circumstances(),
        "versions": package_versions(("torch", "numpy", "fastreid")),
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(arguments.out, json.dumps(kept, indent=1) + "\n")
    sys.stdout.write(f"{page_table(kept)}\n")
    write_part(arguments.page, BEGIN, page_table(kept))


if __name__ == "__main__":
    main()
