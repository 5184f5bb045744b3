"""What came of the runs: means with their 95% intervals, beside the paper's numbers."""

import csv
import io
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import yaml
from scipy.stats import t as student
from tabulate import tabulate

from nplp.experiments.definitions import Domain, Experiment
from nplp.experiments.plan import Cell

__all__ = ["COLUMNS", "Estimate", "Row", "as_csv", "as_markdown", "estimate", "published", "rows_of"]

COLUMNS = ("Rank-1", "Rank-5", "Rank-10", "mAP")


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: of the values.
        half: half the width of its 95% interval by Student's t; NaN for a single value.
        count: number of values.
    """

    mean: float
    half: float
    count: int

    def __str__(self) -> str:
        return f"{self.mean:.1f}" if math.isnan(self.half) else f"{self.mean:.1f} ± {self.half:.1f}"


@dataclass(frozen=True)
class Row:
    """A row of a table in one direction.

    Attributes:
        label: of the setting.
        direction: the paper's name of it.
        values: by metric, one a seed, in the order of the seeds.
        against: by metric, the differences from the table's first row with the same seed.
    """

    label: str
    direction: str
    values: dict[str, list[float]]
    against: dict[str, list[float]]


def estimate(values: list[float]) -> Estimate:
    """Return the mean of one value or more, and half the width of its 95% interval."""
    mean, count = statistics.mean(values), len(values)
    if count < 2:
        return Estimate(mean, math.nan, count)
    half = float(student.ppf(0.975, count - 1)) * statistics.stdev(values) / math.sqrt(count)
    return Estimate(mean, half, count)


def published(table: str) -> dict[str, dict[str, list[float | None]]]:
    """Return a table of published numbers: by row and direction, the values of :data:`COLUMNS`."""
    if not table:
        return {}
    text = files("nplp.experiments").joinpath("published.yml").read_text(encoding="utf-8")
    found: dict[str, dict[str, list[float | None]]] = yaml.safe_load(text)[table]
    return found


def rows_of(cells: list[Cell], results: Callable[[str], dict[str, Any]]) -> list[Row]:
    """Gather the cells of an experiment into rows, in the order in which they come.

    Args:
        cells: of one experiment.
        results: gives the content of a run's results.json.
    """
    gathered: dict[tuple[str, str], dict[int, dict[str, float]]] = {}
    for cell in cells:
        metrics = results(cell.run)[cell.metrics]
        gathered.setdefault((cell.direction, cell.row.label), {})[cell.seed] = metrics
    first: dict[str, dict[int, dict[str, float]]] = {}
    rows = []
    for (direction, label), by_seed in gathered.items():
        base = first.setdefault(direction, by_seed)
        values = {name: [metrics[name] for metrics in by_seed.values()] for name in COLUMNS}
        against = {
            name: [metrics[name] - base[seed][name] for seed, metrics in by_seed.items() if seed in base]
            for name in COLUMNS
        }
        rows.append(Row(label, direction, values, against))
    return rows


def as_csv(rows: list[Row]) -> str:
    """Return rows as CSV: a line a row, direction and metric."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["row", "direction", "metric", "mean", "half_of_95_percent", "seeds", "values"])
    for row in rows:
        for name, values in row.values.items():
            found = estimate(values)
            half = "" if math.isnan(found.half) else f"{found.half:.3f}"
            listed = " ".join(f"{value:.3f}" for value in values)
            writer.writerow([row.label, row.direction, name, f"{found.mean:.3f}", half, found.count, listed])
    return buffer.getvalue()


def as_markdown(experiment: Experiment, domain: Domain, rows: list[Row]) -> str:
    """Return rows as Markdown in the paper's layout, with the paper's numbers on real data beside."""
    theirs = published(experiment.published)
    directions = [name for name in experiment.directions if any(row.direction == name for row in rows)]
    ours = {(row.label, row.direction): row for row in rows}
    labels = [*theirs, *(row.label for row in rows if row.label not in theirs)]
    labels = list(dict.fromkeys(labels))
    parts = [f"## {experiment.title}", ""]
    for direction in directions:
        parts += [f"### {domain.titles[direction]} ({direction} in the paper)", ""]
        header = ["", *(f"{name}" for name in COLUMNS), "mAP against the first row", "seeds"]
        header += [f"paper {name}" for name in COLUMNS] if theirs else []
        table = []
        for label in labels:
            row = ours.get((label, direction))
            cells = [str(estimate(row.values[name])) if row else "" for name in COLUMNS]
            against = _against(row) if row else ""
            count = str(len(row.values["mAP"])) if row else ""
            paper = [
                "-" if value is None else f"{value:.1f}" for value in theirs.get(label, {}).get(direction, ())
            ]
            table.append([label, *cells, against, count, *paper])
        parts += [tabulate(table, headers=header, tablefmt="github", disable_numparse=True), ""]
    return "\n".join(parts)


def _against(row: Row) -> str:
    """Return the mean difference from the first row, over the same seeds; empty for that row itself."""
    differences = row.against["mAP"]
    if not differences or not np.any(differences):
        return ""
    found = estimate(differences)
    half = "" if math.isnan(found.half) else f" ± {found.half:.1f}"
    return f"{found.mean:+.1f}{half}"
