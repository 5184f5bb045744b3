"""Rows as CSV, and as Markdown beside the paper's numbers."""

import csv
import io
import math
import statistics
from importlib.resources import files

import yaml
from tabulate import tabulate

from nplp_experiments.definitions import PAPER, SOURCE, STARTUP, Domain, Experiment
from nplp_experiments.rows import COLUMNS, COMPARED, LABELS, LATE, Row, estimate, least_difference

__all__ = ["as_csv", "as_markdown", "published"]

CSV = (
    *("row", "direction", "metric", "mean", "half_of_95_percent", "seeds", "values"),
    *("against", "difference", "half_of_95_percent_of_difference"),
)
SHARED = {STARTUP: "one startup stage", SOURCE: "one source model", "": "different source models"}


def published(table: str) -> dict[str, dict[str, list[float | None]]]:
    """Return a table of published numbers: by row and direction, the values of :data:`COLUMNS`."""
    if not table:
        return {}
    text = files("nplp_experiments").joinpath("published.yml").read_text(encoding="utf-8")
    found: dict[str, dict[str, list[float | None]]] = yaml.safe_load(text)[table]
    return found


def as_csv(rows: list[Row]) -> str:
    """Return rows as CSV: a line a row, direction and metric."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV)
    for row in rows:
        for name, values in row.values.items():
            difference = _numbers(row.against[name]) if row.base and row.against[name] else ["", ""]
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
            paper = f" ({direction} in the paper)" if direction in PAPER else ""
            parts += [f"## {domain.titles[direction]}{paper}", ""]
            parts += [_metrics_table(experiment, direction, own), "", *_noise(own), *_pooled(own)]
            parts += [_rules(own), "", *(_losses_table(own) if experiment.lost else ())]
            parts += ["Pseudo-labels of the last iteration, means over seeds:", "", _labels_table(own), ""]
            parts += _times_table(own) if experiment.timed else ()
    if len({row.direction for row in rows}) > 1 and (together := _pooled(rows)):
        parts += ["## All directions together", "", *together]
    return "\n".join(parts)


def _metrics_table(experiment: Experiment, direction: str, rows: list[Row]) -> str:
    paper_rows = published(experiment.published)
    own_rows = {row.label: row for row in rows}
    compared = _compared(rows)
    header = ["", *COLUMNS, *(f"{metric} against" for metric in compared), "seeds"]
    header += [f"paper {name}" for name in COLUMNS] if paper_rows else []
    table = []
    for label in dict.fromkeys([*paper_rows, *own_rows]):
        row = own_rows.get(label)
        line = [str(estimate(row.values[name])) for name in COLUMNS] if row else [""] * len(COLUMNS)
        line += [_against(row, metric) for metric in compared] if row else [""] * len(compared)
        line += [str(len(row.values[COMPARED]))] if row else [""]
        paper = paper_rows.get(label, {}).get(direction, ())
        table.append([label, *line, *("-" if value is None else f"{value:.1f}" for value in paper)])
    return tabulate(table, headers=header, tablefmt="github", disable_numparse=True)


def _compared(rows: list[Row]) -> list[str]:
    """Return the metrics of which differences are shown."""
    return [COMPARED, LATE] if any(LATE in row.values for row in rows) else [COMPARED]


def _against(row: Row, metric: str) -> str:
    """Return the mean difference from the row that it is compared with, and the name of that row."""
    if not row.base or not row.against.get(metric):
        return ""
    return f"{estimate(row.against[metric]).text('+')} ({row.base})"


def _noise(rows: list[Row]) -> list[str]:
    """Return the paragraphs that say which differences can be told from the noise of seeds."""
    paragraphs = []
    for metric in _compared(rows):
        sentences = [
            sentence for stage in SHARED for sentence in _noise_between(rows, stage, metric) if sentence
        ]
        if sentences:
            begin = f"Differences of {metric} can be told from the noise of seeds (95%) "
            paragraphs += [f"{begin}{'; '.join(sentences)}.", ""]
    if LATE in _compared(rows):
        paragraphs += [
            f"The {LATE} is the mean over the evaluations in the last quarter of the iterations.",
            "",
        ]
    return [*paragraphs, "The ± beside a number is its own 95% interval.", ""] if paragraphs else []


def _noise_between(rows: list[Row], stage: str, metric: str) -> list[str]:
    """Return the least difference seen between rows that share everything up to ``stage``, if it is known."""
    compared = [row for row in rows if row.base and row.shared == stage and row.against.get(metric)]
    sizes = sorted({len(row.against[metric]) for row in compared})
    found = [(size, least_difference(compared, size, metric)) for size in sizes]
    known = [(size, *least) for size, least in found if least is not None]
    if not known:
        return []
    beyond = " and ".join(f"{least:.1f} points with {size} seeds" for size, least, _ in known)
    return [
        f"beyond {beyond} between rows of {SHARED[stage]} (standard deviation of a difference "
        f"{known[0][2]:.1f}, pooled over {len(compared)})"
    ]


def _pooled(rows: list[Row]) -> list[str]:
    """Return the lines that say the mean differences over all rows of one name."""
    lines = []
    for name in dict.fromkeys(row.pooled for row in rows if row.pooled and row.base):
        own = [row for row in rows if row.pooled == name and row.base]
        for metric in _compared(own):
            differences = [value for row in own for value in row.against.get(metric, ())]
            ahead = sum(value > 0 for value in differences)
            if differences:
                mean = estimate(differences).text("+")
                lines.append(f"- {name}: {metric} {mean}, ahead in {ahead} of {len(differences)}")
    return [*lines, ""] if lines else []


def _rules(rows: list[Row]) -> str:
    """Return the paragraph that says in how many iterations of which rows a rule changed the labels."""
    acted = [
        f"`{rule}` in {count} of {row.iterations} iterations of {row.label}"
        for row in rows
        for rule, count in sorted(row.acted.items())
    ]
    giants = [f"{row.giants} of {row.iterations} of {row.label}" for row in rows if row.giants]
    changes = f"changed labels: {'; '.join(acted)}." if acted else "changed no labels in any of these rows."
    left = f" A giant cluster was trained on as it was in iterations: {'; '.join(giants)}." if giants else ""
    return f"Rules for degenerate clusterings {changes}{left}"


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


def _losses_table(rows: list[Row]) -> list[str]:
    table = [
        [row.label, f"{statistics.mean(row.lost):.1f}", f"{max(row.lost):.1f}", sum(x > 1 for x in row.lost)]
        for row in rows
        if row.lost
    ]
    headers = ["", "mean", "greatest", "runs that lost more than 1"]
    shown = tabulate(table, headers=headers, tablefmt="github", disable_numparse=True)
    return ["mAP of the best iteration less that of the last:", "", shown, ""]


def _times_table(rows: list[Row]) -> list[str]:
    """Return the seconds of an iteration by stage."""
    timed = [row for row in rows if row.seconds]
    stages = dict.fromkeys(name for row in timed for name in row.seconds if name != "source")
    if not stages:
        return []
    table = [
        [row.label, *(f"{row.seconds[name]:.1f}" if name in row.seconds else "" for name in stages)]
        for row in timed
    ]
    shown = tabulate(table, headers=["", *stages], tablefmt="github", disable_numparse=True)
    said = "Seconds of an iteration by stage, on a machine that ran two of these at a time:"
    return [said, "", shown, ""]
