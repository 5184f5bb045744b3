#!/usr/bin/env python
"""Extraction and labelling by two processes of one thread against one process of one thread.

    python benchmarks/distributed.py --output docs/results/distributed.json

Two processes are started, and take turns in each round: first one works by itself while the other sleeps,
then both work together. What else a machine does makes either slower, never faster: the ratio is of the least
times over all rounds, of which the output has all. A turn ends when the last process has its result. The
seconds on a processor are those of the busier process; they leave out waiting, for others' programs as well
as for the other process.

Reading is a pass over drawn crops of 128 x 64, each decoded; extraction is `extract_features` of an untrained
model over them, and decodes them too. Labelling is
`estimate_pseudo_labels` with the correcting stage on drawn features (see clustered_features.py). Both sides'
labels, and both sides' features but for rounding, must be the same, or the run fails.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from fastreid.utils import comm
from tabulate import tabulate

from clustered_features import CLUSTERED, make_features
from nplp.circumstances import circumstances, commit, package_versions
from nplp.clustering import estimate_pseudo_labels
from nplp.clustering.sweep import shared_among
from nplp.config import source_config
from nplp.data.extraction import extract_features
from nplp.data.loaders import build_test_loader
from nplp.distributed.collectives import from_all
from nplp.distributed.processes import launch
from nplp.distributed.shares import rank_shares
from nplp.engine.setup import load_config
from nplp.engine.supervised import SupervisedTrainer
from training import draw_images

CONFIG = "configs/NPLP/quickstart.yml"
PACKAGES = ("torch", "numpy", "numba", "fastreid")
PROCESSES = 2
_WARM_ROWS = 2048

Work = Callable[[], np.ndarray]
"""What is timed; it returns what must be the same by one process and by two."""


def labelling(distance: str, count: int, dimension: int) -> Work:
    """Return what labels drawn features, by all processes that there are."""
    made = make_features(CLUSTERED, count, dimension, seed=0)

    def label(rows: int = count) -> np.ndarray:
        features, cameras = made.features[:rows], made.camera_ids[:rows]
        with shared_among(rank_shares()):
            return estimate_pseudo_labels(features, cameras, alpha=made.alpha, distance=distance).labels

    # The kernels are compiled, or read from the disk.
    label(min(_WARM_ROWS, count))
    return label


def crop_works(config: str, folder: Path, count: int) -> dict[str, Work]:
    """Return what reads and decodes drawn crops, and what extracts their features, by all processes."""
    options = ["MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "0", "NPLP.SOURCE.WEIGHTS", ""]
    options += ["MODEL.BACKBONE.PRETRAIN", "False"]
    cfg = source_config(load_config(argparse.Namespace(config_file=config, opts=options)))
    torch.manual_seed(0)
    model = SupervisedTrainer.build_model(cfg)
    items = draw_images(folder, count)

    def extract() -> np.ndarray:
        return extract_features(cfg, model, items, "Features", everywhere=True).numpy()

    def read() -> np.ndarray:
        own = sum(len(batch["images"]) for batch in build_test_loader(cfg, items))
        return rank_shares().summed(np.array([own]))

    extract()
    return {"reading": read, "extraction": extract}


@contextmanager
def by_itself() -> Iterator[None]:
    """Let this process work as if there were no other."""
    size, rank = comm.get_world_size, comm.get_rank
    comm.get_world_size, comm.get_rank = lambda: 1, lambda: 0
    try:
        yield
    finally:
        comm.get_world_size, comm.get_rank = size, rank


def timed(work: Work) -> tuple[list[float], np.ndarray]:
    """Return how long a work took, on the clock and on this process's processor, and its result."""
    began, busy = time.perf_counter(), time.process_time()
    result = work()
    dist.barrier()
    return [time.perf_counter() - began, time.process_time() - busy], result


def take_turns(work: Work, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Return the seconds of each round, by one process and by two; both processes must call this.

    Raises:
        RuntimeError: if the results differ.
    """
    found: dict[str, dict[str, list[float]]] = {"seconds": {}, "on_processor": {}}

    def note(who: str, took: list[float]) -> None:
        for kind, value in zip(found, np.max(from_all(took), axis=0), strict=True):
            found[kind].setdefault(who, []).append(round(float(value), 3))

    for _ in range(rounds):
        alone, took = None, [0.0, 0.0]
        dist.barrier()
        if comm.get_rank() == 0:
            with by_itself():
                took, alone = timed(work)
        else:
            dist.barrier()
        note("one", took)
        took, together = timed(work)
        note("two", took)
        if alone is not None and not same(alone, together):
            raise RuntimeError("two processes have another result than one")
    return found


def same(first: np.ndarray, second: np.ndarray) -> bool:
    """Return whether labels are equal, or features but for the rounding of batches of another size."""
    if first.dtype.kind == "i":
        return np.array_equal(first, second)
    return first.shape == second.shape and bool(np.allclose(first, second, rtol=1e-4, atol=1e-5))


def ratio(seconds: dict[str, list[float]]) -> float:
    """Return how much faster two processes were."""
    return round(min(seconds["one"]) / min(seconds["two"]), 2)


def measure(args: argparse.Namespace, output: str) -> None:
    """Take all turns in one of the processes; the main one writes the output after each work."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {
        **circumstances(),
        "commit": commit(),
        "packages": package_versions(PACKAGES),
        "load_before": Path("/proc/loadavg").read_text(encoding="ascii").split()[:3],
        "works": [],
    }

    def add(what: dict[str, Any], work: Work) -> None:
        times = take_turns(work, args.rounds)
        if comm.is_main_process():
            ratios = {"ratio": ratio(times["seconds"]), "ratio_on_processor": ratio(times["on_processor"])}
            found["works"].append({**what, **times, **ratios})
            Path(output).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")

    if args.images:
        with tempfile.TemporaryDirectory() as folder:
            for name, work in crop_works(args.config_file, Path(folder), args.images).items():
                add({"work": name, "count": args.images, "config": args.config_file}, work)
    for size in args.sizes:
        for distance in args.distances:
            what = {"work": distance, "count": size, "dimension": args.dimension}
            add(what, labelling(distance, size, args.dimension))


def table(works: list[dict[str, Any]]) -> str:
    """Return the figures as a table."""
    rows = [
        [
            work["work"],
            f"{work['count']:,}",
            f"{min(work['seconds']['one']):.2f}",
            f"{min(work['seconds']['two']):.2f}",
            f"{work['count'] / min(work['seconds']['two']):,.0f}",
            f"{work['ratio']:.2f}",
            f"{work['ratio_on_processor']:.2f}",
        ]
        for work in works
    ]
    headers = ["", "images", "1 process, s", "2 processes, s", "images/s by 2", "ratio", "of processor time"]
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def main() -> None:
    """Measure, write the output and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", default=CONFIG, help="whose model extracts")
    parser.add_argument("--images", type=int, default=2000, help="drawn crops; 0: no extraction")
    parser.add_argument("--sizes", type=int, nargs="*", default=[12_936, 32_621], help="drawn features")
    parser.add_argument("--dimension", type=int, default=1024, help="of the drawn features")
    parser.add_argument("--distances", nargs="*", default=["jaccard", "camera_jaccard", "euclidean"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    launch(measure, PROCESSES, args=(args, str(args.output)), device="cpu")
    works = json.loads(args.output.read_text(encoding="utf-8"))["works"]
    sys.stdout.write(f"{table(works)}\n")


if __name__ == "__main__":
    main()
