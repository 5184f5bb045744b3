#!/usr/bin/env python
"""Sum up the comparison that `tools/reproduce.py methods methods_real` runs, for the page that advises.

python benchmarks/which_method.py            # show the table
python benchmarks/which_method.py --write    # and put it into docs/which_method.md

It reads the records in docs/results/reproduce.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from tabulate import tabulate

from nplp_commands.parsing import OneLineParser, run_tool
from nplp_experiments.catalogue import DOMAINS, EXPERIMENTS
from nplp_experiments.plan import plan
from nplp_experiments.results_file import RECORDS, load_records
from nplp_experiments.rows import Row, estimate, rows_of
from page_part import write_part

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results" / "reproduce"
PAGE = ROOT / "docs" / "which_method.md"
BEGIN = "<!-- comparison -->"
COMPARISONS = {"methods": "synthetic", "methods_real": "pku"}
"""The experiments, and where they run."""
TASKS = {
    "p2s": "plaza to station",
    "s2p": "station to plaza",
    "p2c": "plaza to campus",
    "pku_methods": "MSMT17 to PKU",
}
"""Tasks of the comparison, and what they are called on the page."""


def measured(results: Path) -> tuple[list[Row], str]:
    """Return the rows of all tasks, and when, where and of which commits they are."""
    rows, used = [], []
    for name, place in COMPARISONS.items():
        experiment = EXPERIMENTS[name]
        _, cells = plan(DOMAINS[place], [experiment], None)
        records = load_records(results / place / RECORDS)
        there = [cell for cell in cells[name] if cell.run in records]
        rows += rows_of(experiment, there, records)
        used += [records[cell.run] for cell in there]

    def listed(name: str) -> str:
        return ", ".join(sorted({str(record[name]) for record in used}))

    return (
        rows,
        f"{listed('date')}, {listed('processor')}, {listed('cores')} cores, commit {listed('commit')}",
    )


def table(rows: list[Row]) -> str:
    """Return mAP by method and task, what was lost after the best iteration, and the time of an iteration."""
    by_place = {(row.label, row.direction): row for row in rows}
    labels = list(dict.fromkeys(row.label for row in rows))
    tasks = [task for task in TASKS if any(row.direction == task for row in rows)]
    base = {task: sum(by_place["memory", task].seconds.values()) for task in tasks}
    lines = []
    for label in labels:
        own = [by_place.get((label, task)) for task in tasks]
        found = [row for row in own if row]
        lost = [value for row in found for value in row.lost]
        times = [
            sum(row.seconds.values()) / base[task]
            for task, row in zip(tasks, own, strict=True)
            if row and row.seconds
        ]
        lines.append(
            [
                f"`{label}`" if found[0].seconds else label,
                *(str(estimate(row.values["mAP"])) if row else "" for row in own),
                f"{max(lost):.1f}" if lost else "",
                f"{statistics.mean(times):.1f}" if times else "",
            ]
        )
    headers = ["mAP", *(TASKS[task] for task in tasks), "most lost after the best", "time, `memory` = 1"]
    return tabulate(lines, headers, "github", disable_numparse=True)


def build_parser() -> OneLineParser:
    """Return the parser."""
    parser = OneLineParser(prog="which_method", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.relative_to(ROOT)}")
    return parser


def main(args: argparse.Namespace) -> None:
    """Show the table, or put it into the page."""
    rows, where = measured(RESULTS)
    seeds = {task: len(row.values["mAP"]) for task in TASKS for row in rows if row.direction == task}
    many = ", ".join(f"{TASKS[task]} {count}" for task, count in seeds.items())
    shown = f"{table(rows)}\n\nSeeds: {many}. {where[0].upper()}{where[1:]}."
    sys.stdout.write(f"{shown}\n")
    if args.write:
        write_part(PAGE, BEGIN, shown)


if __name__ == "__main__":
    run_tool(build_parser(), main)
