"""The curves and histograms of a run, as SVG whose lines take the page's colours, and as PNG."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nplp.report.reading import Arrays, RunFolder
from nplp.report.scatter import SIDE, Scatter
from nplp.report.selection import purity

__all__ = [
    "COLOURS",
    "STYLE",
    "UNKNOWN",
    "Plot",
    "curves",
    "distance_plots",
    "figure_and_axes",
    "finish_figure",
    "map_plots",
    "mark_stages",
    "score_plots",
]

INK = "#010203"
"""Drawn in place of the page's text colour, which differs between light and dark."""

UNKNOWN = "#888888"
"""The colour of an image whose identity is unknown."""

DOTS_PER_INCH = 110
"""Of PNG files."""

COLOURS = ("#3b7dd8", "#d9541e", "#2f9e62", "#a05cc8")
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "nplp",
    "font.size": 10,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.15,
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color"), INK
    ),
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Plot:
    """A picture of numbers.

    Attributes:
        name: of its files.
        title: above it.
        words: a description of the picture, for screen readers.
        svg: the picture, to be put into a page.
        png: the same as a file.
        header: names of the columns of `rows`.
        rows: the numbers themselves.
    """

    name: str
    title: str
    words: str
    svg: str
    png: bytes
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


def finish_figure(figure: Figure) -> tuple[str, bytes]:
    """Return a figure as SVG and PNG, laid out once for both."""
    text, image = io.StringIO(), io.BytesIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    figure.set_layout_engine("none")
    figure.set_dpi(DOTS_PER_INCH)
    figure.set_facecolor("white")
    # Figure.savefig would draw it twice, the first time for a layout that it has.
    FigureCanvasAgg(figure).print_png(image, metadata={"Software": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :].replace(INK, "currentColor"), image.getvalue()


def figure_and_axes(width: float = 5.2, height: float = 3.1) -> tuple[Figure, Axes]:
    """Return an empty figure of so many inches, and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def curves(run: RunFolder) -> list[Plot]:
    """Return the curves by iteration; those of which nothing is known are not there."""
    return [plot for plot in (*_iteration_curves(run), _loss_curve(run)) if plot is not None]


CURVES: tuple[tuple[str, str, tuple[tuple[str, str, float], ...]], ...] = (
    ("accuracy", "Rank-1 and mAP, percent", (("Rank-1", "Rank-1", 1), ("mAP", "mAP", 1))),
    ("epsilon", "Radius of the clustering", (("epsilon_e", "epsilon_e", 1), ("epsilon_c", "epsilon_c", 1))),
    ("clusters", "Clusters", (("clusters", "clusters", 1), ("identities", "people there are", 1))),
    ("outliers", "Images in no cluster", (("outliers", "outliers", 1),)),
    (
        "quality",
        "Precision, recall and NMI of the pseudo-labels, percent",
        (("precision", "precision", 100), ("recall", "recall", 100), ("nmi", "NMI", 100)),
    ),
    (
        "noise",
        "Mixed and fragmented noise, percent",
        (("mixed_noise", "mixed", 100), ("fragmented_noise", "fragmented", 100)),
    ),
)


def _iteration_curves(run: RunFolder) -> list[Plot | None]:
    return [_iteration_curve(run, *curve) for curve in CURVES]


def _iteration_curve(
    run: RunFolder, name: str, title: str, lines: tuple[tuple[str, str, float], ...]
) -> Plot | None:
    history: list[dict[str, Any]] = list(run.history)
    if name == "accuracy" and "direct_transfer" in run.results:
        history = [{"iteration": 0, **run.results["direct_transfer"]}, *history]
    series = [
        (label, [(line["iteration"], factor * line[key]) for line in history if line.get(key) is not None])
        for key, label, factor in lines
    ]
    series = [(label, points) for label, points in series if points]
    if not series:
        return None
    with mpl.rc_context(STYLE):
        figure, axes = figure_and_axes()
        for (label, points), colour, dash in zip(series, COLOURS, ("-", "--", "-.", ":"), strict=False):
            x, y = zip(*points, strict=True)
            axes.plot(x, y, dash, color=colour, label=label, marker="o", markersize=3.5)
        if name == "accuracy":
            averaged = [(line["iteration"], line["ema/mAP"]) for line in history if "ema/mAP" in line]
            if averaged:
                axes.plot(*zip(*averaged, strict=True), ":", color=COLOURS[2], label="mAP, averaged weights")
        numbers = [line["iteration"] for line in history]
        startup = run.option("NPLP", "STARTUP_ITERATIONS", default=0)
        if 0 < startup < max(numbers):
            mark_stages(axes, startup + 0.5)
        axes.set_xlim(min(numbers) - 0.3, max(numbers) + 0.3)
        axes.set_xlabel("iteration")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="best", fontsize=9)
        svg, png = finish_figure(figure)
    first, last = ({label: points[end][1] for label, points in series} for end in (0, -1))
    words = "; ".join(f"{label} from {first[label]:.4g} to {last[label]:.4g}" for label in first)
    table = {x: dict.fromkeys(first, "") for _, points in series for x, _ in points}
    for label, points in series:
        for x, y in points:
            table[x][label] = f"{y:.4g}"
    rows = [[str(x), *values.values()] for x, values in sorted(table.items())]
    return Plot(name, title, f"{title} by iteration: {words}.", svg, png, ["iteration", *first], rows)


def mark_stages(axes: Axes, boundary: float) -> None:
    """Draw the boundary between the startup and the correcting stage, both named, where x is ``boundary``."""
    axes.axvline(boundary, color=INK, linewidth=1, alpha=0.6, linestyle=":")
    for side, text, shift in (("right", "startup", -6), ("left", "correcting", 6)):
        axes.annotate(
            text,
            (boundary, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(shift, 0),
            textcoords="offset points",
            ha=side,
            va="bottom",
            fontsize=8,
            alpha=0.8,
        )


def _loss_curve(run: RunFolder) -> Plot | None:
    keys = [
        key for key in ("loss_triplet", "loss_cc", "total_loss") if any(key in line for line in run.losses)
    ]
    if not keys:
        return None
    with mpl.rc_context(STYLE):
        figure, axes = figure_and_axes()
        for key, colour in zip(keys, COLOURS, strict=False):
            points = [(line["iteration"], line[key]) for line in run.losses if key in line]
            label = key.removeprefix("loss_").replace("_", " ")
            axes.plot(*zip(*points, strict=True), color=colour, label=label, marker=".")
        axes.set_xlabel("step")
        axes.set_ylim(bottom=0)
        axes.legend(loc="best", fontsize=9)
        svg, png = finish_figure(figure)
    header = ["step", *keys]
    rows = [
        [str(line["iteration"]), *(f"{line[key]:.4g}" if key in line else "" for key in keys)]
        for line in run.losses[:: max(1, len(run.losses) // 50)]
    ]
    return Plot("losses", "Losses of the adaptation", "Losses by training step.", svg, png, header, rows)


def map_plots(pictures: list[Scatter], people: np.ndarray) -> list[Plot]:
    """Return the maps of the features as pictures for files.

    Args:
        pictures: of the stages.
        people: [S] numbers that become colours; -1 where the identity is unknown.
    """
    plots = []
    for picture in pictures:
        with mpl.rc_context({**STYLE, "axes.grid": False}):
            figure, axes = figure_and_axes(6, 6)
            for line in picture.outlines:
                axes.fill(line[:, 0], line[:, 1], color=INK, alpha=0.12, linewidth=9, joinstyle="round")
            x, y = picture.points.T
            known = people >= 0
            hues = people[known] * 137.508 % 360
            axes.scatter(x[~known], y[~known], color=UNKNOWN, s=14)
            axes.scatter(x[known], y[known], c=hues, cmap="hsv", vmin=0, vmax=360, s=14)
            axes.set(xlim=(0, SIDE), ylim=(SIDE, 0), xticks=[], yticks=[], title=picture.title)
            svg, png = finish_figure(figure)
        name = f"map_{picture.title.lower().replace(' ', '_')}"
        plots.append(Plot(name, picture.title, f"Map of features, {picture.title}.", svg, png))
    return plots


GROUPS = {
    (1, 1): "same person, same camera",
    (1, 0): "same person, other camera",
    (0, 1): "other person, same camera",
    (0, 0): "other person, other camera",
}


def distance_plots(run: RunFolder) -> list[Plot]:
    """Return histograms of the distances at the turning points, with epsilon drawn in."""
    numbers = sorted(int(path.stem[-4:]) for path in (run.folder / "trace").glob("distances_*.npz"))
    # Where some are unknown, pairs of one person cannot be told from others.
    known = 0 < run.known_identities == len(run.images["identities"])
    plots = []
    for number in numbers:
        arrays = run.trace(f"distances_{number:04d}")
        if arrays:
            plots.append(_distance_plot(number, arrays, known))
    return plots


def _distance_plot(number: int, arrays: Arrays, known: bool) -> Plot:
    edges, counts, beyond = arrays["edges"], arrays["counts"], arrays["beyond"]
    epsilon_e, epsilon_c = arrays["epsilon"]
    rows = []
    with mpl.rc_context(STYLE):
        figure, axes = figure_and_axes(height=3.9)
        for (group, label), colour in zip(GROUPS.items(), COLOURS, strict=True):
            if not known and group[0]:
                continue
            total = counts[group].sum() + beyond[group]
            if not total:
                continue
            name = label if known else label.partition(", ")[2]
            axes.stairs(counts[group] / total, edges, baseline=None, color=colour, label=name, linewidth=1.4)
            near = float(counts[group][edges[1:] <= epsilon_e].sum() / total)
            rows.append([name, f"{total:,}", f"{100 * near:.3f}", f"{100 * beyond[group] / total:.1f}"])
        axes.set_yscale("log")
        axes.set_xlabel("distance")
        axes.set_ylabel("share of the pairs")
        for value, name, dash in ((epsilon_e, "epsilon_e", "-"), (epsilon_c, "epsilon_c", "--")):
            axes.axvline(value, color=INK, linestyle=dash, linewidth=1, label=name)
        figure.legend(loc="outside upper center", ncols=2, fontsize=8)
        svg, png = finish_figure(figure)
    header = ["pairs", "number", "within epsilon_e, %", "at the greatest distance, %"]
    words = f"Histogram of distances at iteration {number}, epsilon_e {epsilon_e:.4f}."
    return Plot(f"distances_{number:04d}", f"Distances, iteration {number}", words, svg, png, header, rows)


def score_plots(run: RunFolder, arrays: Arrays) -> list[Plot]:
    """Return the histogram of the self-assessment scores of an iteration, and score against purity."""
    scores = arrays.get("self_assessment", np.empty(0))
    if not len(scores):
        return []
    noisy = arrays["noisy_clusters"]
    with mpl.rc_context(STYLE):
        figure, axes = figure_and_axes()
        axes.hist(scores, bins=30, color=COLOURS[0])
        if len(noisy):
            axes.axvline(
                scores[noisy].max(), color=INK, linestyle="--", linewidth=1, label="clustered again below"
            )
            axes.legend(fontsize=9)
        axes.set_xlabel("self-assessment score")
        axes.set_ylabel("clusters")
        svg, png = finish_figure(figure)
    words = f"{len(scores)} clusters, scores from {scores.min():.3f} to {scores.max():.3f}."
    plots = [Plot("scores", "Self-assessment scores", words, svg, png)]
    identities = run.images.get("identities")
    if identities is None:
        return plots
    pure = purity(arrays["startup_labels"], identities)
    chosen = np.isin(np.arange(len(scores)), noisy)
    known = ~np.isnan(pure)
    if not known.any():
        return plots
    scores, pure, chosen = scores[known], pure[known], chosen[known]
    with mpl.rc_context(STYLE):
        figure, axes = figure_and_axes()
        for mask, colour, mark, label in (
            (~chosen, COLOURS[0], "o", "kept"),
            (chosen, COLOURS[1], "x", "clustered again"),
        ):
            axes.scatter(
                scores[mask], 100 * pure[mask], s=22, color=colour, marker=mark, label=label, alpha=0.8
            )
        axes.set_xlabel("self-assessment score")
        axes.set_ylabel("images of the commonest person, %")
        axes.legend(fontsize=9)
        svg, png = finish_figure(figure)
    related = (
        float(np.corrcoef(scores, pure)[0, 1]) if len(scores) > 2 and scores.std() and pure.std() else 0.0
    )
    words = f"Score against purity: correlation {related:.2f}."
    return [*plots, Plot("score_purity", f"Score and purity (correlation {related:.2f})", words, svg, png)]
