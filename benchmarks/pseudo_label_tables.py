"""The tables of the pseudo-label benchmark and the targets that they are held against."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from fresh_process import REFERENCE

__all__ = ["TARGETS", "Target", "clustered_table", "relative_table", "worst_table"]

_REASON_WIDTH = 100


@dataclass(frozen=True)
class Target:
    """What the stage is to reach at one size by one distance.

    Attributes:
        ratio: most time, in reference products; None where seconds are asked for.
        seconds: most seconds; None where a ratio is asked for.
        memory_mb: most memory above the features; None where none is asked for.
    """

    ratio: float | None = None
    seconds: float | None = None
    memory_mb: float | None = None


TARGETS: dict[tuple[str, int, int, str], Target] = {
    ("cpu", 12936, 1024, "jaccard"): Target(ratio=1.25, memory_mb=300),
    ("cpu", 12936, 1024, "euclidean"): Target(ratio=0.75, memory_mb=200),
    ("cpu", 32621, 1024, "jaccard"): Target(ratio=1.0, memory_mb=700),
    ("cpu", 32621, 1024, "euclidean"): Target(ratio=0.75, memory_mb=500),
    ("cpu", 126441, 1024, "jaccard"): Target(ratio=1.0, memory_mb=2000),
    ("cpu", 126441, 1024, "euclidean"): Target(ratio=0.75, memory_mb=1000),
    ("cuda", 1000000, 512, "jaccard"): Target(seconds=120),
    ("cuda", 1000000, 512, "euclidean"): Target(seconds=60),
}
"""By device, N, D and distance; the ratios are for two cores."""


def clustered_table(results: Sequence[dict[str, Any]], device: str) -> str:
    """Return the table of the clustered features, in Markdown.

    Args:
        results: an entry a size: `count`, `dimension`, `identities`; `seconds`, `memory` and `labels` by
            work; `not_run`, a reason by work.
        device: "cpu" or "cuda".
    """
    headers = ["N x D", "", "seconds", "x reference (min-max)", "target", "MB", "target"]
    headers += ["clusters / identities", "outliers", "F1"]
    rows = [row for result in results for row in _rows_of_size(result, device)]
    return _markdown(rows, headers)


def _rows_of_size(result: dict[str, Any], device: str) -> list[list[str]]:
    """Return the rows of one size: the reference, each work, and what was not run and why."""
    count, dimension, seconds = result["count"], result["dimension"], result["seconds"]
    size = f"{count:,} x {dimension}"
    rows = []
    for work, times in seconds.items():
        target = TARGETS.get((device, count, dimension, work), Target())
        cells = [size, work, f"{statistics.median(times):.3g}"]
        if work == REFERENCE:
            rows.append([*cells, f"1 ({min(times):.3g}-{max(times):.3g} s)", *[""] * 6])
            continue
        labels, memory = result["labels"][work]["final"], result["memory"].get(work)
        cells += [_spread(times, seconds[REFERENCE]), _time_target(times, seconds[REFERENCE], target)]
        cells += [_memory(memory), _memory_target(memory, target)]
        cells += [f"{labels['clusters']:,} / {result['identities']:,}"]
        rows.append([*cells, f"{labels['outliers']:,}", f"{labels['f1']:.2f}"])
    rows += [[size, work, reason, *[""] * 7] for work, reason in result["not_run"].items()]
    return rows


def relative_table(results: Sequence[dict[str, Any]], base: str) -> str:
    """Return the table of time and memory of the other works over those of `base`, in Markdown.

    Args:
        results: an entry a size, as `clustered_table` takes them.
        base: a work that was measured in each.
    """
    headers = ["N x D", "", f"x time of {base} (min-max)", f"x memory of {base}"]
    rows = []
    for result in results:
        size = f"{result['count']:,} x {result['dimension']}"
        seconds, memory = result["seconds"], result["memory"]
        for work in seconds:
            if work in memory and work != base:
                shares = (memory[part]["host_mb"] for part in (work, base))
                rows.append([size, work, _spread(seconds[work], seconds[base]), f"{_quotient(*shares):.2f}"])
    return _markdown(rows, headers)


def _quotient(value: float, base: float) -> float:
    """Return value / base; infinite where the base is too small to be seen."""
    return value / base if base else float("inf")


def worst_table(results: Sequence[dict[str, Any]]) -> str:
    """Return the table of the worst cases, in Markdown.

    Args:
        results: an entry a case and distance: `kind`, `distance`, `count`, `dimension`, `allowance_mb`, and
            either `failed`, a reason, or `seconds` by work, `memory` and `labels`.

    The clusters shown are those before correction: of one giant cluster and a small one, correction clusters
    one again, which may well be the giant.
    """
    headers = ["worst case", "N x D", "", "seconds", "x reference (min-max)", "MB", "MB allowed"]
    headers += ["MB of N x N", "startup clusters", "outliers", "largest"]
    rows = []
    for result in results:
        head = [result["kind"], f"{result['count']:,} x {result['dimension']}", result["distance"]]
        matrix = f"{4 * result['count'] ** 2 / 2**20:,.0f}"
        allowed = [f"{result['allowance_mb']:,}", matrix]
        if "failed" in result:
            reason = textwrap.shorten(result["failed"], _REASON_WIDTH, placeholder=" ...")
            rows.append([*head, "failed", reason, "", *allowed, "", "", ""])
            continue
        times, reference = result["seconds"][result["distance"]], result["seconds"][REFERENCE]
        labels = result["labels"]["startup"]
        found = [f"{labels['clusters']:,}", f"{labels['outliers']:,}"]
        found += [f"{labels['largest_cluster_share']:.0%}"]
        spread = _spread(times, reference)
        rows.append(
            [*head, f"{statistics.median(times):.3g}", spread, _memory(result["memory"]), *allowed, *found]
        )
    return _markdown(rows, headers)


def _markdown(rows: list[list[str]], headers: list[str]) -> str:
    """Return a table in Markdown, its cells as they are."""
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def _ratios(times: Sequence[float], reference: Sequence[float]) -> list[float]:
    """Return the ratio of each round to the reference of the same round."""
    return [own / whole for own, whole in zip(times, reference, strict=True)]


def _spread(times: Sequence[float], reference: Sequence[float]) -> str:
    """Return the median of the ratios with their range."""
    ratios = _ratios(times, reference)
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def _time_target(times: Sequence[float], reference: Sequence[float], target: Target) -> str:
    """Return the target of time, and whether the median meets it."""
    if target.ratio is not None:
        return _verdict(statistics.median(_ratios(times, reference)), target.ratio, "")
    if target.seconds is not None:
        return _verdict(statistics.median(times), target.seconds, " s")
    return ""


def _memory(memory: dict[str, float | None] | None) -> str:
    """Return the peak of the host's memory, and of the GPU's where there is one."""
    if memory is None:
        return ""
    on_device = memory["device_mb"]
    return f"{memory['host_mb']:,.0f}" + ("" if on_device is None else f", GPU {on_device:,.0f}")


def _memory_target(memory: dict[str, float | None] | None, target: Target) -> str:
    """Return the target of memory, and whether it is met."""
    if memory is None or target.memory_mb is None or memory["host_mb"] is None:
        return ""
    return _verdict(memory["host_mb"], target.memory_mb, " MB")


def _verdict(value: float, most: float, unit: str) -> str:
    """Return a target and whether a value meets it."""
    return f"<= {most:g}{unit}, {'met' if value <= most else 'not met'}"
