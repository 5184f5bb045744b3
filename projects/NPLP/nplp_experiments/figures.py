"""The figures of an experiment: performance by iteration, and by setting."""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.ticker import MaxNLocator

from nplp.report.plots import COLOURS, STYLE, Plot, figure_and_axes, finish_figure, mark_stages
from nplp_experiments.definitions import Domain, Experiment
from nplp_experiments.plan import Cell
from nplp_experiments.results_file import option_of
from nplp_experiments.rows import Row, estimate

__all__ = ["by_iteration", "by_setting"]

MARKS = ("o", "s", "^", "D", "v", "P")


def by_iteration(
    experiment: Experiment, domain: Domain, cells: list[Cell], records: Mapping[str, dict[str, Any]]
) -> list[Plot]:
    """Return Rank-1 and mAP by iteration in each direction, mean over the seeds and their range (Fig. 3)."""
    found = []
    end_of_startup = _end_of_startup([records[cell.run] for cell in cells])
    for direction in dict.fromkeys(cell.direction for cell in cells):
        for metric in ("Rank-1", "mAP"):
            with mpl.rc_context(STYLE):
                labels = list(dict.fromkeys(cell.row.label for cell in cells))
                # The names of many lines find no room among them.
                many = len(labels) > len(COLOURS)
                colours = mpl.color_sequences["tab10"] if many else COLOURS
                figure, axes = figure_and_axes(7.6 if many else 5.2)
                for number, label in enumerate(labels):
                    chosen = [
                        cell for cell in cells if (cell.row.label, cell.direction) == (label, direction)
                    ]
                    steps, values = _histories([records[cell.run] for cell in chosen], metric)
                    colour = colours[number % len(colours)]
                    style: dict[str, Any] = {
                        "color": colour,
                        "marker": MARKS[number % len(MARKS)],
                        "markersize": 3.5,
                    }
                    axes.plot(steps, values.mean(axis=0), label=label, **style)
                    axes.fill_between(steps, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15)
                if end_of_startup is not None:
                    mark_stages(axes, end_of_startup)
                axes.set_xlabel("iteration")
                axes.set_ylabel(f"{metric}, percent")
                axes.xaxis.set_major_locator(MaxNLocator(integer=True))
                beside: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
                axes.legend(fontsize=8, **(beside if many else {}))
                svg, png = finish_figure(figure)
            name = f"{experiment.name}_{direction}_{metric.lower().replace('-', '')}"
            title = f"{domain.titles[direction]}: {metric} by iteration"
            found.append(Plot(name, title, title, svg, png))
    return found


def _end_of_startup(contents: list[dict[str, Any]]) -> int | None:
    """Return the iteration after which runs correct their pseudo-labels, if any do, and all at once."""
    ends = {int(option_of(content, "NPLP.STARTUP_ITERATIONS") or 0) for content in contents}
    ends = {end for end in ends if 0 < end < max(len(content["history"]) for content in contents)}
    return ends.pop() if len(ends) == 1 else None


def _histories(contents: list[dict[str, Any]], metric: str) -> tuple[list[int], np.ndarray]:
    """Return the iterations at which every run was evaluated, from 0, and the metric [runs, iterations]."""
    series = []
    for content in contents:
        line = {0: content["results"]["direct_transfer"][metric]}
        line.update({each["iteration"]: each[metric] for each in content["history"] if metric in each})
        series.append(line)
    steps = sorted(set.intersection(*(set(line) for line in series)))
    return steps, np.array([[line[step] for step in steps] for line in series])


def by_setting(experiment: Experiment, domain: Domain, rows: list[Row]) -> list[Plot]:
    """Return Rank-1 and mAP of each row with their 95% intervals, in the order of the rows (Fig. 5)."""
    found = []
    for direction in dict.fromkeys(row.direction for row in rows):
        chosen = [row for row in rows if row.direction == direction]
        with mpl.rc_context(STYLE):
            figure, axes = figure_and_axes()
            for metric, colour, mark in zip(("Rank-1", "mAP"), COLOURS, MARKS, strict=False):
                means = [estimate(row.values[metric]) for row in chosen]
                halves = np.nan_to_num([each.half for each in means])
                places = range(len(chosen))
                style: dict[str, Any] = {"color": colour, "marker": mark, "capsize": 3}
                axes.errorbar(places, [each.mean for each in means], yerr=halves, label=metric, **style)
            axes.set_xticks(
                range(len(chosen)), [row.label for row in chosen], rotation=20, ha="right", fontsize=8
            )
            axes.set_ylabel("percent")
            axes.legend(fontsize=9)
            svg, png = finish_figure(figure)
        title = f"{experiment.title}, {domain.titles[direction]}"
        found.append(Plot(f"{experiment.name}_{direction}", title, title, svg, png))
    return found
