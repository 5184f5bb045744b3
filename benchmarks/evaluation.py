#!/usr/bin/env python
"""Time and memory of ranking and re-ranking, against the toolbox's.

    python benchmarks/evaluation.py --sizes 1000x5000 3368x15913 --write

Each work is measured in a process of its own: it draws the features, does the work once at a small size,
sets the peak of memory back, and does it, from features to Rank-1 and mAP with the distances. A round
runs every work in turn, so that a drift of the machine is in all. Ratios are to the toolbox's Cython
ranking in the same round, and their medians are shown. Memory is the growth of the peak of resident
memory above the features. A work that takes more than --minutes is stopped, and the table says so.

The toolbox's Cython is compiled once into a folder of its own. What would not fit into memory is not run,
and the table says so: the toolbox's ranking takes about 30 bytes for each pair, its re-ranking 12 more
for each pair of all images. 3368x15913 is the size of Market-1501, 11659x82161 that of MSMT17, where ours
alone fits.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate
from tqdm import tqdm

from child_process import MeasurementError, read_records
from clustered_features import CLUSTERED, make_features
from nplp.circumstances import circumstances, commit, package_versions, usable_cores
from page_part import write_part
from peak_memory import PeakMemory, available_memory
from pseudo_label_options import positive

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "docs" / "results" / "evaluation.json"
PAGE = ROOT / "docs" / "evaluation.md"
BEGIN = "<!-- benchmarks/evaluation.py -->"

CYTHON, PYTHON, OURS = "toolbox, Cython", "toolbox, Python", "ours"
TOOLBOX_RERANKED = "toolbox, re-ranked"
RERANKED, PAPER_RERANKED = "ours, re-ranked", "ours, re-ranked, paper's form"
WORKS = (CYTHON, PYTHON, OURS, TOOLBOX_RERANKED, RERANKED, PAPER_RERANKED)
WARM = (200, 1000)
PACKAGES = ("nplp", "fastreid", "torch", "numpy", "numba", "faiss-cpu", "cython")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")

Case = tuple[torch.Tensor, torch.Tensor, list[np.ndarray]]
"""Features of queries and gallery; identities and cameras in the order of ``evaluate_rank``."""


def size(text: str) -> tuple[int, int]:
    """Return queries and gallery images of a text like 3368x15913.

    Raises:
        argparse.ArgumentTypeError: if it is not one.
    """
    queries, _, gallery = text.partition("x")
    if not (queries.isdecimal() and gallery.isdecimal() and int(queries) and int(gallery)):
        raise argparse.ArgumentTypeError(f"a size must be like 3368x15913, got {text!r}")
    return int(queries), int(gallery)


def needed_memory(work: str, queries: int, gallery: int) -> int:
    """Return the bytes that a work takes for its matrices, beyond the features; 0 for ours."""
    pairs, everything = queries * gallery, (queries + gallery) ** 2
    by_work = {CYTHON: 30 * pairs, PYTHON: 12 * pairs, TOOLBOX_RERANKED: 12 * everything + 30 * pairs}
    return by_work.get(work, 0)


def compile_cython(folder: Path) -> str:
    """Compile the toolbox's Cython ranking into a folder, and return why that failed; empty if it did not."""
    package = importlib.util.find_spec("fastreid")
    assert package is not None
    assert package.origin is not None
    source = Path(package.origin).parent / "evaluation" / "rank_cylib"
    for name in ("rank_cy.pyx", "roc_cy.pyx", "setup.py"):
        shutil.copy(source / name, folder)
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--inplace"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it said nothing"])[-1]


def _run(job: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> None:
    """Measure one work in this process."""
    torch.set_num_threads(job["threads"])
    work = _work(job["work"], job["cython"])
    work(_case(*WARM, job["dimension"], job["seed"]))
    case = _case(job["queries"], job["gallery"], job["dimension"], job["seed"])
    memory, start = PeakMemory(torch.device("cpu")), time.perf_counter()
    rank1, mean_ap = work(case)
    seconds = time.perf_counter() - start
    emit(
        {
            "work": job["work"],
            "seconds": seconds,
            "host_mb": memory.host_mb(),
            "Rank-1": rank1,
            "mAP": mean_ap,
        }
    )


def _case(queries: int, gallery: int, dimension: int, seed: int) -> Case:
    made = make_features(CLUSTERED, queries + gallery, dimension, seed)
    features = torch.from_numpy(made.features)
    labels = [
        part for values in (made.identities, made.camera_ids) for part in (values[:queries], values[queries:])
    ]
    return features[:queries], features[queries:], labels


def _work(name: str, cython: str) -> Callable[[Case], tuple[float, float]]:
    """Return what is timed: from a case to Rank-1 and mAP, as fractions."""
    if name.startswith("toolbox"):
        return _toolbox_work(name, cython)
    from nplp.evaluation.protocol import check_labels
    from nplp.evaluation.ranking import score_queries
    from nplp.evaluation.reranking import RerankedDistances, Reranking
    from nplp.evaluation.tiles import DistanceBlocks, FeatureDistances

    def ours(case: Case) -> tuple[float, float]:
        queries, gallery, labels = case
        distances: DistanceBlocks = FeatureDistances(queries, gallery, "cosine")
        if name != OURS:
            form = "paper" if name == PAPER_RERANKED else "toolbox"
            distances = RerankedDistances(queries, gallery, "cosine", Reranking(form=form))
        scores = score_queries(distances, check_labels(*labels))
        return float((scores.first == 0).mean()), float(scores.average_precision.mean())

    return ours


def _toolbox_work(name: str, cython: str) -> Callable[[Case], tuple[float, float]]:
    import nplp.host

    nplp.host.apply()
    from fastreid.evaluation.rank import eval_market1501
    from fastreid.utils import compute_dist
    from torch.nn import functional as F

    rank = eval_market1501
    if name != PYTHON:
        sys.path.insert(0, cython)
        rank = importlib.import_module("rank_cy").eval_market1501_cy

    def toolbox(case: Case) -> tuple[float, float]:
        queries, gallery, labels = case
        distances = compute_dist.build_dist(queries, gallery, "cosine")
        if name == TOOLBOX_RERANKED:
            parts = F.normalize(queries, dim=1), F.normalize(gallery, dim=1)
            jaccard = compute_dist.build_dist(*parts, "jaccard", k1=20, k2=6)
            distances = jaccard * 0.7 + distances * 0.3
        cmc, precision, _ = rank(np.asarray(distances, dtype=np.float32), *labels, 50)
        return float(cmc[0]), float(np.mean(precision))

    return toolbox


def measured(args: argparse.Namespace, queries: int, gallery: int, cython: str, bar: tqdm) -> dict[str, Any]:
    """Return the figures of one size, a list of a record a round for each work, and what was not run."""
    records: dict[str, list[dict[str, Any]]] = {}
    not_run: dict[str, str] = {}
    for number in range(args.repeats):
        for work in args.works:
            bar.set_description(f"{queries}x{gallery} {work}")
            reason = not_run.get(work) or _reason(args, work, queries, gallery, cython)
            if reason:
                not_run[work] = reason
            else:
                job = {
                    "work": work, "queries": queries, "gallery": gallery, "dimension": args.dimension,
                    "seed": args.seed + number, "threads": args.threads, "cython": cython,
                }  # fmt: skip
                environment = {**os.environ, **dict.fromkeys(THREADS, str(args.threads))}
                try:
                    command = [sys.executable, __file__, "--job", json.dumps(job)]
                    found = read_records(command, lambda _: None, environment, 60 * args.minutes)
                    records.setdefault(work, []).extend(found)
                except MeasurementError as error:
                    not_run[work] = str(error)
            bar.update()
    return {"queries": queries, "gallery": gallery, "records": records, "not_run": not_run}


def _reason(args: argparse.Namespace, work: str, queries: int, gallery: int, cython: str) -> str:
    """Return why a work is not run; empty if it is."""
    if work in (CYTHON, TOOLBOX_RERANKED) and not cython:
        return str(args.no_cython)
    needed, free = needed_memory(work, queries, gallery), available_memory()
    if free is not None and needed > 0.9 * free:
        return f"needs {needed / 1e9:.0f} GB"
    return ""


def table(sizes: Sequence[dict[str, Any]]) -> str:
    """Return the table of figures, in Markdown."""
    rows = []
    for found in sizes:
        records = found["records"]
        reference = [record["seconds"] for record in records.get(CYTHON, [])]
        for work in (*records, *(work for work in found["not_run"] if work not in records)):
            name = f"{found['queries']:,} x {found['gallery']:,}"
            if work in found["not_run"]:
                rows.append([name, work, "-", "-", found["not_run"][work], "-"])
                continue
            seconds = [record["seconds"] for record in records[work]]
            ratios = [own / other for own, other in zip(seconds, reference, strict=False)]
            rows.append(
                [
                    name,
                    work,
                    f"{statistics.median(seconds):.1f}",
                    f"{statistics.median(ratios):.2f}" if ratios else "-",
                    f"{max(record['host_mb'] for record in records[work]):,.0f}",
                    f"{100 * records[work][0]['mAP']:.2f}",
                ]
            )
    headers = ["queries x gallery", "", "seconds", "to Cython", "MB", "mAP"]
    return tabulate(rows, headers, "github", disable_numparse=True)


def write(figures: dict[str, Any], shown: str) -> None:
    """Write the figures beside the page, and the table into it."""
    FIGURES.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    known = f"{figures['processor']}, {figures['threads']} threads, {figures['date']}"
    write_part(PAGE, BEGIN, f"\n{shown}\n\n{known}\n")


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the checked options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    sizes = [(1000, 5000), (3368, 15913)]
    add("--sizes", type=size, nargs="+", default=sizes, metavar="QxG", help="default: 1000x5000 3368x15913")
    add("--works", nargs="+", choices=WORKS, default=list(WORKS), metavar="WORK", help=f"of {WORKS}")
    add("--dimension", type=positive, default=1024, help="of the features (default: 1024)")
    add("--repeats", type=positive, default=3, help="rounds (default: 3)")
    add("--minutes", type=positive, default=10, help="after which a work is stopped (default: 10)")
    add("--threads", type=positive, default=usable_cores(), help="default: all cores, %(default)s here")
    add("--seed", type=int, default=0, help="of the features of the first round (default: 0)")
    add("--write", action="store_true", help="write docs/results/evaluation.json and docs/evaluation.md")
    add("--job", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, and write it where that is asked for."""
    args = parsed(arguments)
    if args.job is not None:
        stream = sys.stdout
        # What a library prints must not be taken for a record.
        with redirect_stdout(sys.stderr):
            _run(json.loads(args.job), lambda record: print(json.dumps(record), file=stream, flush=True))
        return
    figures: dict[str, Any] = {
        **circumstances(), "versions": package_versions(PACKAGES), "commit": commit(),
        "threads": args.threads, "dimension": args.dimension, "seed": args.seed,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        args.no_cython = compile_cython(Path(folder))
        cython = "" if args.no_cython else folder
        with tqdm(total=len(args.sizes) * args.repeats * len(args.works), disable=None, unit="work") as bar:
            figures["sizes"] = [measured(args, *one, cython, bar) for one in args.sizes]
    shown = table(figures["sizes"])
    sys.stdout.write(f"{shown}\n")
    if args.write:
        write(figures, shown)


if __name__ == "__main__":
    main()
