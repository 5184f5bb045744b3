"""Rows of a table from the records of runs: values by seed, means, and differences from other rows.

Differences are taken seed by seed, as runs of a seed share what they can.
"""

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scipy.stats import t as student

from nplp_experiments.definitions import Experiment
from nplp_experiments.plan import Cell, shared_stage

__all__ = [
    "AVERAGED_MAP",
    "COLUMNS",
    "COMPARED",
    "LABELS",
    "LATE",
    "Estimate",
    "Row",
    "estimate",
    "least_difference",
    "rows_of",
]

COLUMNS = ("Rank-1", "Rank-5", "Rank-10", "mAP")
COMPARED = "mAP"
TRANSFER = "direct_transfer"
GIANT = "giant_cluster"
AVERAGED, AVERAGED_MAP = "final_ema", "ema/mAP"
"""The stage of averaged weights, and their mAP in the history."""
LATE = "late mAP"
"""The mean over the evaluations in the last quarter of the iterations, where there are several."""
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
        values: by metric, and by :data:`LATE` where it is known, one a seed, in the order of the seeds.
        labels: by key of :data:`LABELS`, those of the last iteration, one a seed.
        base: label of the row that it is compared with; empty: none.
        shared: the last stage that it has in common with that row; "direct_transfer" if it is one.
        against: by metric, the differences from that row with the same seed.
        pooled: name of the rows whose differences are averaged together with its own; empty: none.
        iterations: of all seeds together.
        acted: in how many of them a rule for degenerate clusterings changed the labels, by the rule's name.
        giants: in how many of them a giant cluster was trained on as it was.
        lost: mAP of the best iteration less that of the last, one a seed; empty where it was not evaluated
            repeatedly.
        seconds: of an iteration, by what took them, means over all iterations; empty where none are known.
    """

    label: str
    direction: str
    values: dict[str, list[float]]
    labels: dict[str, list[float]]
    base: str
    shared: str
    against: dict[str, list[float]]
    pooled: str
    iterations: int = 0
    acted: Mapping[str, int] = field(default_factory=dict)
    giants: int = 0
    lost: Sequence[float] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)


def estimate(values: list[float]) -> Estimate:
    """Return the mean of one value or more, and half the width of its 95% interval."""
    mean, count = statistics.mean(values), len(values)
    if count < 2:
        return Estimate(mean, math.nan, count)
    half = float(student.ppf(0.975, count - 1)) * statistics.stdev(values) / math.sqrt(count)
    return Estimate(mean, half, count)


def least_difference(rows: list[Row], count: int, metric: str = COMPARED) -> tuple[float, float] | None:
    """Return from what size on a mean difference can be told from the noise of seeds, at 95%.

    The variance of differences within a seed is pooled over rows that are compared with another, so it has
    more degrees of freedom than a row's own.

    Args:
        rows: of one direction that have equally much in common with what they are compared with.
        count: number of seeds of the difference.
        metric: which.

    Returns:
        That size and the pooled standard deviation, both in points; ``None`` without two seeds of a row.
    """
    compared = [row.against[metric] for row in rows if row.base and len(row.against.get(metric, ())) > 1]
    freedom = sum(len(differences) - 1 for differences in compared)
    if not freedom:
        return None
    squares = sum((len(each) - 1) * statistics.variance(each) for each in compared)
    deviation = math.sqrt(squares / freedom)
    return float(student.ppf(0.975, freedom)) * deviation / math.sqrt(count), deviation


def rows_of(experiment: Experiment, cells: list[Cell], records: Mapping[str, dict[str, Any]]) -> list[Row]:
    """Gather the cells of an experiment into rows, direction by direction.

    Args:
        experiment: whose cells they are.
        cells: those whose runs have ended.
        records: by the key of a run.
    """
    metrics: dict[tuple[str, str], dict[int, dict[str, float]]] = {}
    labels: dict[tuple[str, str], list[dict[str, Any]]] = {}
    iterations: dict[tuple[str, str], list[dict[str, Any]]] = {}
    lost: dict[tuple[str, str], list[float]] = {}
    seconds: dict[tuple[str, str], dict[str, float]] = {}
    for cell in cells:
        place = cell.direction, cell.row.label
        record = records[cell.run]
        found = dict(record["results"][cell.metrics])
        if cell.metrics == "final":
            found.update(_late(record["history"]))
        metrics.setdefault(place, {})[cell.seed] = found
        # The direct transfer of a run that goes on has nothing to do with the run's last labels.
        history = record["history"] if cell.metrics != TRANSFER else []
        labels.setdefault(place, []).extend(history[-1:])
        iterations.setdefault(place, []).extend(history)
        lost.setdefault(place, []).extend(_lost(history, cell.metrics))
        spent = seconds.setdefault(place, {})
        for name, value in (record.get("stage_seconds", {}) if history else {}).items():
            spent[name] = spent.get(name, 0.0) + value
    settings = {row.label: row for row in experiment.rows}
    rows = []
    for (direction, label), by_seed in metrics.items():
        base = settings[label].against or experiment.rows[0].label
        others = metrics.get((direction, base), {}) if base != label else {}
        names = [*COLUMNS, LATE] if all(LATE in found for found in by_seed.values()) else list(COLUMNS)
        against = {
            name: [
                found[name] - others[seed][name]
                for seed, found in by_seed.items()
                if name in others.get(seed, ())
            ]
            for name in names
        }
        values = {name: [found[name] for found in by_seed.values()] for name in names}
        last = labels[direction, label]
        known = {key: [line[key] for line in last if key in line] for key in LABELS}
        shared = shared_stage(settings[label], settings[base]) if others else ""
        if others and settings[base].metrics == TRANSFER:
            shared = TRANSFER
        lines = iterations[direction, label]
        acted = Counter(rule for line in lines for rule in line.get("acted", ()))
        giants = sum(GIANT in line.get("rules", ()) and GIANT not in line.get("acted", ()) for line in lines)
        rows.append(
            Row(
                label=label,
                direction=direction,
                values=values,
                labels=known,
                base=base if others else "",
                shared=shared,
                against=against,
                pooled=settings[label].pooled,
                iterations=len(lines),
                acted=acted,
                giants=giants,
                lost=lost[direction, label],
                seconds={name: value / len(lines) for name, value in seconds[direction, label].items()},
            )
        )
    return rows


def _late(history: list[dict[str, Any]]) -> dict[str, float]:
    """Return the mean mAP over the last quarter of the iterations, if it was evaluated there repeatedly."""
    values = [line[COMPARED] for line in history[3 * len(history) // 4 :] if COMPARED in line]
    return {LATE: statistics.mean(values)} if len(values) > 1 else {}


def _lost(history: list[dict[str, Any]], stage: str) -> list[float]:
    """Return by how much the last iteration is below the best, of the weights that a stage is of."""
    key = AVERAGED_MAP if stage == AVERAGED else COMPARED
    values = [line[key] for line in history if key in line]
    return [max(values) - values[-1]] if len(values) > 1 else []
