#!/usr/bin/env python
"""Fit seconds = a N^2 + b N to the clustered features of a file that pseudo_labels.py wrote.

The N^2 part is the products of all pairs and the reading of them, the N part everything that an image costs.
Relative errors are minimised, so that the sizes count alike; with two sizes the fit is exact and says nothing
about the model. All sizes must have the same D.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from tabulate import tabulate

LARGER = (10**6, 10**7)


def fitted(counts: Sequence[int], seconds: Sequence[float]) -> tuple[float, float]:
    """Return a and b of least squared relative error, neither below 0.

    Args:
        counts: N of each measurement, at least two different ones.
        seconds: of each measurement.
    """
    n, t = np.asarray(counts, dtype=np.float64), np.asarray(seconds)
    terms = np.stack([n**2 / t, n / t], axis=1)
    scale = np.abs(terms).max(axis=0)
    a, b = np.linalg.lstsq(terms / scale, np.ones(len(n)), rcond=None)[0] / scale
    if b < 0:
        return float((n**2 / t).sum() / ((n**2 / t) ** 2).sum()), 0.0
    if a < 0:
        return 0.0, float((n / t).sum() / ((n / t) ** 2).sum())
    return float(a), float(b)


def table(measured: Sequence[dict[str, Any]]) -> str:
    """Return the model of each work as a table: constants, greatest error, and what it says of larger N.

    Args:
        measured: the entries of "clustered", of one D.
    """
    rows = []
    dimension = measured[0]["dimension"]
    for work in measured[0]["seconds"]:
        known = [
            (size["count"], median(size["seconds"][work])) for size in measured if work in size["seconds"]
        ]
        if len({count for count, _ in known}) < 2:
            continue
        counts, seconds = zip(*known, strict=True)
        a, b = fitted(counts, seconds)
        errors = [abs(a * n**2 + b * n - t) / t for n, t in known]
        rate = f"{dimension / a:.2g}" if a else "-"
        larger = [f"{a * n**2 + b * n:,.0f}" for n in LARGER]
        rows.append([work, len(known), f"{a:.2e}", f"{b:.2e}", f"{100 * max(errors):.0f}%", rate, *larger])
    headers = ["", "sizes", "a", "b", "error", "N^2 D a second", *(f"s at {n:,}" for n in LARGER)]
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and return the exit status: 0, or 2 for a file that cannot be used."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("figures", type=Path, help="a file of pseudo_labels.py --output")
    path = parser.parse_args(arguments).figures
    try:
        measured = json.loads(path.read_text(encoding="utf-8"))["clustered"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.stderr.write(f"{path} is no output of pseudo_labels.py ({type(error).__name__}: {error})\n")
        return 2
    if len({size["count"] for size in measured}) < 2 or len({size["dimension"] for size in measured}) != 1:
        sys.stderr.write(f"{path} must hold two sizes or more, all of one dimension: measure with --sizes\n")
        return 2
    sys.stdout.write(f"{table(measured)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
