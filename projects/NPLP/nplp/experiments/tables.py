"""What came of the runs: means with their 95% intervals, beside the paper's numbers."""

import csv
import io
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml
from scipy.stats import t as student
from tabulate import tabulate

from nplp.experiments.definitions import SOURCE, STARTUP, Domain, Experiment
from nplp.experiments.plan import Cell, shared_stage

__all__ = ["COLUMNS", "Estimate", "Row", "as_csv", "as_markdown", "estimate", "least_difference", "published"]
__all__ += ["rows_of"]

COLUMNS = ("Rank-1", "Rank-5", "Rank-10", "mAP")
COMPARED = "mAP"
CSV = (
    *("row", "direction", "metric", "mean", "half_of_95_percent", "seeds", "values"),
    *("against", "difference", "half_of_95_percent_of_difference"),
)
SHARED = {STARTUP: "one startup stage", SOURCE: "one source model", "": "different source models"}
LABELS = {
    "clusters": ("clusters", 1),
    "outliers": ("outliers", 1),
    "precision": ("precision", 100),
    "recall": ("recall", 100),
    "cross_camera_recall": ("recall across cameras", 100),
    "mixed_noise": ("mixed noise", 100),
    "fragmented_noise": ("fragmented noise", 100),
}
"""What is shown of the pseudo-labels: key, heading and factor."""


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
        return self.text("")

    def text(self, sign: str) -> str:
        """Return the mean and its interval as text, with a plus before the mean if ``sign`` is one."""
        half = "" if math.isnan(self.half) else f" ± {self.half:.1f}"
        return f"{self.mean:{sign}.1f}{half}"


@dataclass(frozen=True)
class Row:
    """A row of a table in one direction.

    Attributes:
        label: of the setting.
        direction: the paper's name of it.
        values: by metric, one a seed, in the order of the seeds.
        labels: by key of :data:`LABELS`, those of the last iteration, one a seed.
        base: label of the row that it is compared with; empty: none.
        shared: the last stage that it has in common with that row.
        against: by metric, the differences from that row with the same seed.
    """

    label: str
    direction: str
    values: dict[str, list[float]]
    labels: dict[str, list[float]]
    base: str
    shared: str
    against: dict[str, list[float]]


def estimate(values: list[float]) -> Estimate:
    """Return the mean of one value or more, and half the width of its 95% interval."""
    mean, count = statistics.mean(values), len(values)
    if count < 2:
        return Estimate(mean, math.nan, count)
    half = float(student.ppf(0.975, count - 1)) * statistics.stdev(values) / math.sqrt(count)
    return Estimate(mean, half, count)


def least_difference(rows: list[Row], count: int) -> tuple[float, float] | None:
    """Return from what size on a mean difference of mAP can be told from the noise of seeds, at 95%.

    The variance of differences within a seed is pooled over rows that are compared with another, so it has
    more degrees of freedom than a row's own.

    Args:
        rows: of one direction that have equally much in common with what they are compared with.
        count: number of seeds of the difference.

    Returns:
        That size and the pooled standard deviation, both in points; ``None`` without two seeds of a row.
    """
    compared = [row.against[COMPARED] for row in rows if row.base and len(row.against[COMPARED]) > 1]
    freedom = sum(len(differences) - 1 for differences in compared)
    if not freedom:
        return None
    squares = sum((len(each) - 1) * statistics.variance(each) for each in compared)
    deviation = math.sqrt(squares / freedom)
    return float(student.ppf(0.975, freedom)) * deviation / math.sqrt(count), deviation


def published(table: str) -> dict[str, dict[str, list[float | None]]]:
    """Return a table of published numbers: by row and direction, the values of :data:`COLUMNS`."""
    if not table:
        return {}
    text = files("nplp.experiments").joinpath("published.yml").read_text(encoding="utf-8")
    found: dict[str, dict[str, list[float | None]]] = yaml.safe_load(text)[table]
    return found


def rows_of(experiment: Experiment, cells: list[Cell], records: Mapping[str, dict[str, Any]]) -> list[Row]:
    """Gather the cells of an experiment into rows, direction by direction.

    Args:
        experiment: whose cells they are.
        cells: those whose runs have ended.
        records: by the key of a run.
    """
    metrics: dict[tuple[str, str], dict[int, dict[str, float]]] = {}
    labels: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cell in cells:
        place = cell.direction, cell.row.label
        record = records[cell.run]
        metrics.setdefault(place, {})[cell.seed] = record["results"][cell.metrics]
        labels.setdefault(place, []).extend(record["history"][-1:])
    settings = {row.label: row for row in experiment.rows}
    rows = []
    for (direction, label), by_seed in metrics.items():
        base = settings[label].against or experiment.rows[0].label
        others = metrics.get((direction, base), {}) if base != label else {}
        against = {
            name: [found[name] - others[seed][name] for seed, found in by_seed.items() if seed in others]
            for name in COLUMNS
        }
        values = {name: [found[name] for found in by_seed.values()] for name in COLUMNS}
        last = labels[direction, label]
        known = {key: [line[key] for line in last if key in line] for key in LABELS}
        shared = shared_stage(settings[label], settings[base]) if others else ""
        rows.append(Row(label, direction, values, known, base if others else "", shared, against))
    return rows


def as_csv(rows: list[Row]) -> str:
    """Return rows as CSV: a line a row, direction and metric."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV)
    for row in rows:
        for name, values in row.values.items():
            difference = _numbers(row.against[name]) if row.base else ["", ""]
            listed = " ".join(f"{value:.3f}" for value in values)
            writer.writerow(
                [
                    row.label,
                    row.direction,
                    name,
                    *_numbers(values),
                    len(values),
                    listed,
                    row.base,
                    *difference,
                ]
            )
    return buffer.getvalue()


def _numbers(values: list[float]) -> list[str]:
    """Return the mean and half of its interval as text; the latter empty for a single value."""
    found = estimate(values)
    return [f"{found.mean:.3f}", "" if math.isnan(found.half) else f"{found.half:.3f}"]


def as_markdown(experiment: Experiment, domain: Domain, rows: list[Row]) -> str:
    """Return rows as Markdown in the paper's layout, with the paper's numbers on real data beside."""
    parts = [f"# {experiment.title}", "", *(text for note in experiment.notes for text in (note, ""))]
    for direction in experiment.directions:
        own = [row for row in rows if row.direction == direction]
        if own:
            parts += [f"## {domain.titles[direction]} ({direction} in the paper)", ""]
            parts += [_metrics_table(experiment, direction, own), "", *_noise(own)]
            parts += ["Pseudo-labels of the last iteration, means over seeds:", "", _labels_table(own), ""]
    return "\n".join(parts)


def _metrics_table(experiment: Experiment, direction: str, rows: list[Row]) -> str:
    theirs = published(experiment.published)
    ours = {row.label: row for row in rows}
    header = ["", *COLUMNS, f"{COMPARED} against", "seeds"]
    header += [f"paper {name}" for name in COLUMNS] if theirs else []
    table = []
    for label in dict.fromkeys([*theirs, *ours]):
        row = ours.get(label)
        line = [str(estimate(row.values[name])) for name in COLUMNS] if row else [""] * len(COLUMNS)
        line += [_against(row), str(len(row.values[COMPARED]))] if row else ["", ""]
        paper = theirs.get(label, {}).get(direction, ())
        table.append([label, *line, *("-" if value is None else f"{value:.1f}" for value in paper)])
    return tabulate(table, headers=header, tablefmt="github", disable_numparse=True)


def _against(row: Row) -> str:
    """Return the mean difference from the row that it is compared with, and the name of that row."""
    if not row.base or not row.against[COMPARED]:
        return ""
    return f"{estimate(row.against[COMPARED]).text('+')} ({row.base})"


def _noise(rows: list[Row]) -> list[str]:
    """Return the paragraph that says which differences can be told from the noise of seeds."""
    sentences = []
    for stage, words in SHARED.items():
        compared = [row for row in rows if row.base and row.shared == stage]
        counts = [len(row.against[COMPARED]) for row in compared]
        found = least_difference(compared, min(counts)) if counts else None
        if found is not None:
            least, deviation = found
            sentences.append(
                f"{least:.1f} points between rows of {words} (standard deviation of a difference "
                f"{deviation:.1f}, pooled over {len(counts)})"
            )
    if not sentences:
        return []
    return [
        f"Differences of {COMPARED} can be told from the noise of seeds (95%) beyond {'; '.join(sentences)}. "
        "The ± beside a number is its own 95% interval.",
        "",
    ]


def _labels_table(rows: list[Row]) -> str:
    table = [
        [row.label, *(_mean(row.labels[key], factor) for key, (_, factor) in LABELS.items())]
        for row in rows
        if any(row.labels.values())
    ]
    headers = ["", *(heading for heading, _ in LABELS.values())]
    return tabulate(table, headers=headers, tablefmt="github", disable_numparse=True)


def _mean(values: list[float], factor: int) -> str:
    if not values:
        return ""
    return f"{factor * statistics.mean(values):.{1 if factor > 1 else 0}f}"
