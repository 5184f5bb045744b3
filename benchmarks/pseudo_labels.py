#!/usr/bin/env python
"""Time and memory of the pseudo-label stage, against one bare full matrix product.

The reference is X @ X.T in blocks of 2048 rows, float32, with the same threads; nothing of it is kept. The
work is estimate_pseudo_labels with the correcting stage. Times are medians of rounds in one process, each a
reference and every work in turn, so that a drift of the machine is in both; a ratio is to the reference of
the same round. Memory is the growth of the peak of resident memory above the features, each time in a
process of its own whose kernels are compiled and whose peak is set back before it starts (1 MB = 2^20 bytes).

The features are drawn: identities of 17 images on average, six cameras that each add an offset. --usual runs
what the stage usually is beside it (full matrix, sort, scikit-learn's DBSCAN, dense sums; for Jaccard the
toolbox's own distances) where that fits in memory.

--worst runs features without structure, identical ones, one giant cluster (also with so large an alpha that
pairs within epsilon are tens of millions), 50% outliers and hundreds of copies in the same camera, each in a
process that is limited to the memory it has with its features and the reference's block, and an allowance
(--allowance) that no N x N array of float32 fits in. The limit is Linux's RLIMIT_DATA, set after the kernels
are compiled. A case that does not fit is a row that says so.

--relative-to DISTANCE also prints the time of each other distance over that of this one in the same round,
and its memory over that of this one, as for --distances jaccard camera_jaccard --relative-to jaccard.

An interrupted run leaves the sizes that were finished in the output.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from clustered_features import CLUSTERED
from fresh_process import REFERENCE, Job, MeasurementError, measure
from nplp.circumstances import circumstances, commit, package_versions
from peak_memory import available_memory
from pseudo_label_options import parsed
from pseudo_label_tables import clustered_table, relative_table, worst_table
from usual_way import needed_memory

PACKAGES = ("nplp", "fastreid", "torch", "numpy", "scipy", "scikit-learn", "numba", "faiss-cpu")


def usual_works(args: argparse.Namespace, count: int) -> tuple[list[str], dict[str, str]]:
    """Return the usual works that fit in memory, and for the others the reason why they are not run."""
    works, not_run = [], {}
    for distance in args.distances if args.usual else []:
        needed, free = needed_memory(distance, count), available_memory()
        if free is not None and needed > 0.9 * free:
            not_run[f"usual {distance}"] = (
                f"does not fit: needs about {needed / 2**30:.1f} GB, {free / 2**30:.1f} GB are available"
            )
        else:
            works.append(f"usual {distance}")
    return works, not_run


def clustered(args: argparse.Namespace, count: int, dimension: int, bar: tqdm) -> dict[str, Any]:
    """Return the figures of one size of the clustered features."""
    usual, not_run = usual_works(args, count)
    works = (REFERENCE, *args.distances, *usual)
    timing = _job(args, CLUSTERED, (count, dimension), works)
    records = _measured(timing, bar)
    memory = {work: _memory(_measured(replace(timing, works=(work,), repeats=1), bar)) for work in works[1:]}
    labels = {record["work"]: record["labels"] for record in records if "labels" in record}
    return {
        "count": count, "dimension": dimension, "identities": records[0]["identities"],
        "alpha": records[0]["alpha"], "seconds": _seconds(records), "memory": memory, "labels": labels,
        "not_run": not_run,
    }  # fmt: skip


def worst(args: argparse.Namespace, kind: str, distance: str, bar: tqdm) -> dict[str, Any]:
    """Return the figures of a worst case, or the reason why it failed."""
    job = _job(args, kind, args.worst_size, (REFERENCE, distance))
    job = replace(job, alpha=None, allowance_mb=args.allowance)
    result = {"kind": kind, "distance": distance, "count": job.count, "dimension": job.dimension}
    result["allowance_mb"] = job.allowance_mb
    try:
        records = _measured(job, bar)
    except MeasurementError as error:
        return {**result, "failed": str(error)}
    found = {"alpha": records[0]["alpha"], "seconds": _seconds(records), "memory": _memory(records)}
    return {**result, **found, "labels": records[-1]["labels"]}


def _job(args: argparse.Namespace, kind: str, size: tuple[int, int], works: tuple[str, ...]) -> Job:
    """Return a job at the options that all of them share."""
    return Job(
        kind=kind, count=size[0], dimension=size[1], seed=args.seed, works=works, repeats=args.repeats,
        threads=args.threads, device=args.device, alpha=args.alpha, float32=args.float32,
    )  # fmt: skip


def _measured(job: Job, bar: tqdm) -> list[dict[str, Any]]:
    """Run a job, with a step of the bar for each record and for those that do not come."""
    bar.set_description(f"{job.kind} {job.count}x{job.dimension}")
    end = bar.n + job.repeats * len(job.works)
    try:
        return measure(job, lambda _: bar.update())
    finally:
        bar.update(end - bar.n)


def _seconds(records: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """Return the seconds of every round by work."""
    seconds: dict[str, list[float]] = {}
    for record in records:
        seconds.setdefault(record["work"], []).append(record["seconds"])
    return seconds


def _memory(records: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Return the peaks of memory, which do not fall from one record to the next."""
    return {name: records[-1][name] for name in ("host_mb", "device_mb")}


def _unfinished(output: Path) -> Path:
    """Return the file that becomes `output` once it is whole, after making its folder."""
    output.parent.mkdir(parents=True, exist_ok=True)
    return output.with_name(f".{output.name}.{os.getpid()}")


def _check_writable(output: Path) -> None:
    """Raise the OSError that writing the output would raise, before hours of measuring."""
    unfinished = _unfinished(output)
    unfinished.touch()
    unfinished.unlink()


def _write(output: Path | None, figures: dict[str, Any]) -> None:
    """Write the figures as JSON, whole or not at all."""
    if output is not None:
        unfinished = _unfinished(output)
        unfinished.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        unfinished.replace(output)


def _circumstances(args: argparse.Namespace) -> dict[str, Any]:
    """Return what the figures were measured on and with."""
    gpu = torch.cuda.get_device_name() if args.device == "cuda" else None
    return {
        **circumstances(), "gpu": gpu, "versions": package_versions(PACKAGES), "commit": commit(),
        "threads": args.threads, "device": args.device, "float32": args.float32, "seed": args.seed,
        "repeats": args.repeats,
    }  # fmt: skip


def _run(args: argparse.Namespace, figures: dict[str, Any]) -> None:
    """Measure all that is asked for into `figures`, and write them after every size and case."""
    cases = (
        [(kind, distance) for kind in args.worst_cases for distance in args.distances] if args.worst else []
    )
    steps = len(cases) * 2 * args.repeats
    for count, _ in args.sizes:
        works = len(args.distances) + len(usual_works(args, count)[0])
        steps += (works + 1) * args.repeats + works
    with tqdm(total=steps, disable=None, unit="work") as bar:
        for count, dimension in args.sizes:
            figures["clustered"].append(clustered(args, count, dimension, bar))
            _write(args.output, figures)
        for kind, distance in cases:
            figures["worst"].append(worst(args, kind, distance, bar))
            _write(args.output, figures)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables and return the exit status.

    Returns:
        0; 1 if a measurement failed; 2 for options that cannot be used; 130 if interrupted.
    """
    args = parsed(arguments, __doc__)
    figures = {**_circumstances(args), "clustered": [], "worst": []}
    try:
        if args.output is not None:
            _check_writable(args.output)
    except OSError as error:
        sys.stderr.write(f"--output cannot be written, choose another place: {error}\n")
        return 2
    try:
        _run(args, figures)
        status = int(any("failed" in case for case in figures["worst"]))
    except (MeasurementError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        status = 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: what follows is what had been finished\n")
        status = 130
    if figures["clustered"]:
        sys.stdout.write(f"{clustered_table(figures['clustered'], args.device)}\n\n")
        if args.relative_to is not None:
            sys.stdout.write(f"{relative_table(figures['clustered'], args.relative_to)}\n\n")
    if figures["worst"]:
        sys.stdout.write(f"{worst_table(figures['worst'])}\n\n")
    known = {name: value for name, value in figures.items() if name not in ("clustered", "worst")}
    sys.stdout.write(f"{json.dumps(known, indent=2)}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
