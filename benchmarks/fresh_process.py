"""Time and memory of the pseudo-label stage in a process of its own, which reports line by line.

Run by `measure`, not by hand: the process gets a `Job` as JSON and prints one JSON object a line, so that
what it holds, compiles or leaves behind is in no other measurement.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from child_process import MeasurementError, read_records
from clustered_features import CLUSTERED, BenchmarkFeatures, make_features
from nplp.clustering import estimate_pseudo_labels, label_quality
from nplp.clustering.sweep import tiles
from peak_memory import PeakMemory, data_limit
from usual_way import StartupAndFinal, usual_euclidean, usual_jaccard

__all__ = ["REFERENCE", "REFERENCE_TF32", "Job", "MeasurementError", "measure", "tf32_products"]

REFERENCE = "reference"
REFERENCE_TF32 = "reference tf32"
_BLOCK_ROWS = 2048
_WARM_ROWS = 1024
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")

Work = Callable[[], StartupAndFinal | None]
"""What is timed; the reference has no labels."""


@dataclass(frozen=True)
class Job:
    """What one process measures.

    Attributes:
        kind: of features, one of `clustered_features.KINDS`.
        count: number of images N.
        dimension: of the features, D.
        seed: of the features.
        works: in the order of a round: "reference", "reference tf32", "jaccard", "camera_jaccard",
            "euclidean", "usual jaccard" or "usual euclidean".
        repeats: number of rounds.
        threads: of torch and of every library that it can be told to.
        device: "cpu" or "cuda".
        alpha: share of pairs of eq. 4; None for the one that belongs to the kind.
        allowance_mb: private memory that the works may take beyond what was there before; None for any.
        float32: multiply in float32 only, as where the processor has no AMX.
        seconds: after which no further round begins; None for all rounds.
        peak_by_work: set the peaks of memory back before each work, instead of once.
    """

    kind: str
    count: int
    dimension: int
    seed: int
    works: tuple[str, ...]
    repeats: int
    threads: int
    device: str
    alpha: float | None = None
    allowance_mb: int | None = None
    float32: bool = False
    seconds: float | None = None
    peak_by_work: bool = False


def measure(
    job: Job, on_record: Callable[[dict[str, Any]], object], seconds: float | None = None
) -> list[dict[str, Any]]:
    """Run a job in a fresh process and return its records.

    Args:
        job: what to measure.
        on_record: called with each record as it comes: `work`, `seconds`, `alpha`, `identities` (their
            number), and the growth of the peak of memory so far, `host_mb` and `device_mb` (None on the CPU);
            but for the reference also `labels`, what came out of it before and after correction.
        seconds: after which the process is stopped; None never stops it.

    Raises:
        MeasurementError: if the process fails, be it for want of memory, or is stopped.
    """
    environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(job.threads))}
    return read_records([sys.executable, __file__, json.dumps(asdict(job))], on_record, environment, seconds)


def _run(job: Job, emit: Callable[[dict[str, Any]], None]) -> None:
    """Carry a job out in this process."""
    torch.set_num_threads(job.threads)
    if job.float32:
        tiles.half_precision_pays = lambda *_: False
    device = torch.device(job.device)
    warm = make_features(CLUSTERED, _WARM_ROWS, job.dimension, job.seed)
    for work in _works(job, warm, warm.alpha, device).values():
        work()
    made = make_features(job.kind, job.count, job.dimension, job.seed)
    identities = len(np.unique(made.identities))
    alpha = made.alpha if job.alpha is None else job.alpha
    works = _works(job, made, alpha, device)
    memory, start = PeakMemory(device), time.perf_counter()
    for number in range(job.repeats):
        if number and job.seconds is not None and time.perf_counter() - start > job.seconds:
            return
        for name, work in works.items():
            if job.peak_by_work:
                memory = PeakMemory(device)
            with data_limit(job.allowance_mb):
                seconds, labels = _timed(work, device)
            record = {"work": name, "seconds": seconds, "alpha": alpha, "identities": identities}
            record |= {"host_mb": memory.host_mb(), "device_mb": memory.device_mb()}
            emit(record if labels is None else record | {"labels": _summary(labels, made)})


def _works(job: Job, made: BenchmarkFeatures, alpha: float, device: torch.device) -> dict[str, Work]:
    """Return the works of a job by name."""
    on_cpu = torch.from_numpy(made.features)
    features = on_cpu.to(device)

    @cache
    def block() -> torch.Tensor:
        return features.new_zeros(min(_BLOCK_ROWS, len(features)), len(features)).fill_(1)

    def estimate(distance: str) -> StartupAndFinal:
        found = estimate_pseudo_labels(
            features, made.camera_ids, alpha=alpha, distance=distance, correct=True
        )
        return found.startup_labels, found.labels

    known: dict[str, Callable[[], Work]] = {
        REFERENCE: lambda: _full_product(features, block(), tf32=False),
        REFERENCE_TF32: lambda: _full_product(features, block(), tf32=True),
        "jaccard": lambda: lambda: estimate("jaccard"),
        "camera_jaccard": lambda: lambda: estimate("camera_jaccard"),
        "euclidean": lambda: lambda: estimate("euclidean"),
        "usual jaccard": lambda: lambda: usual_jaccard(on_cpu, made.camera_ids, alpha),
        "usual euclidean": lambda: lambda: usual_euclidean(on_cpu, made.camera_ids, alpha),
    }
    return {name: known[name]() for name in job.works}


@contextmanager
def tf32_products(allowed: bool) -> Iterator[None]:
    """Let products of float32 matrices on a GPU use TF32, or forbid it, and set what was there back.

    Where torch has the newer setting, reading or writing the older one beside it is an error.
    """
    products: Any = torch.backends.cuda.matmul
    name, value = (
        ("fp32_precision", "tf32" if allowed else "ieee")
        if hasattr(products, "fp32_precision")
        else ("allow_tf32", allowed)
    )
    before = getattr(products, name)
    setattr(products, name, value)
    try:
        yield
    finally:
        setattr(products, name, before)


def _full_product(features: torch.Tensor, block: torch.Tensor, tf32: bool) -> Callable[[], None]:
    """Return the reference: X @ X.T in blocks of 2048 rows, each over the last, in memory that is there."""
    count = len(features)

    def product() -> None:
        with tf32_products(tf32):
            for start in range(0, count, _BLOCK_ROWS):
                rows = features[start : start + _BLOCK_ROWS]
                torch.mm(rows, features.T, out=block[: len(rows)])

    return product


def _timed(work: Work, device: torch.device) -> tuple[float, StartupAndFinal | None]:
    """Return the seconds that a work takes, with all that it started on the device, and its result."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    result = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start, result


def _summary(labels: StartupAndFinal, made: BenchmarkFeatures) -> dict[str, dict[str, float | int | str]]:
    """Return what tells a sensible clustering from a degenerate one, before and after correction.

    The digest is the same for the same labels.
    """
    summary: dict[str, dict[str, float | int | str]] = {}
    for stage, of_stage in zip(("startup", "final"), labels, strict=True):
        quality = label_quality(of_stage, made.identities)
        summary[stage] = {
            "clusters": quality.clusters,
            "outliers": quality.outliers,
            "largest_cluster_share": quality.largest_cluster_share,
            "f1": quality.f1,
            "digest": hashlib.sha256(np.asarray(of_stage, dtype=np.int64).tobytes()).hexdigest()[:16],
        }
    return summary


if __name__ == "__main__":
    stream = sys.stdout
    # What a library prints must not be taken for a record.
    with redirect_stdout(sys.stderr):
        _run(
            Job(**json.loads(sys.argv[1])),
            lambda record: print(json.dumps(record), file=stream, flush=True),
        )
