"""Time and memory of the pseudo-label stage in a process of its own, which reports line by line.

Run by `measure`, not by hand: the process gets a `Job` as JSON and prints one JSON object a line, so that
what it holds, compiles or leaves behind is in no other measurement.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from clustered_features import CLUSTERED, BenchmarkFeatures, make_features
from nplp.clustering import estimate_pseudo_labels, euclidean, label_quality, neighbours
from peak_memory import PeakMemory, data_limit
from usual_way import StartupAndFinal, usual_euclidean, usual_jaccard

__all__ = ["REFERENCE", "Job", "MeasurementError", "measure"]

REFERENCE = "reference"
_BLOCK_ROWS = 2048
_WARM_ROWS = 1024
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")

Work = Callable[[], StartupAndFinal | None]
"""What is timed; the reference has no labels."""


class MeasurementError(RuntimeError):
    """The process ended before it had measured everything; the message is the last thing it said."""


@dataclass(frozen=True)
class Job:
    """What one process measures.

    Attributes:
        kind: of features, one of `clustered_features.KINDS`.
        count: number of images N.
        dimension: of the features, D.
        seed: of the features.
        works: in the order of a round: "reference", "jaccard", "euclidean", "usual jaccard" or
            "usual euclidean".
        repeats: number of rounds.
        threads: of torch and of every library that it can be told to.
        device: "cpu" or "cuda".
        alpha: share of pairs of eq. 4; None for the one that belongs to the kind.
        allowance_mb: private memory that the works may take beyond what was there before; None for any.
        float32: multiply in float32 only, as where the processor has no AMX.
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


def measure(job: Job, on_record: Callable[[dict[str, Any]], object]) -> list[dict[str, Any]]:
    """Run a job in a fresh process and return its records.

    Args:
        job: what to measure.
        on_record: called with each record as it comes: `work`, `seconds`, `alpha`, `identities` (their
            number), and the growth of the peak of memory so far, `host_mb` and `device_mb` (None on the CPU);
            but for the reference also `labels`, what came out of it before and after correction.

    Raises:
        MeasurementError: if the process fails, be it for want of memory.
    """
    environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(job.threads))}
    command = [sys.executable, __file__, json.dumps(asdict(job))]
    records = []
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as errors,
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            for line in process.stdout:
                records.append(json.loads(line))
                on_record(records[-1])
        except BaseException:
            process.kill()
            raise
        if process.wait() != 0:
            errors.seek(0)
            last = (errors.read().strip().splitlines() or ["it said nothing"])[-1]
            raise MeasurementError(f"exit status {process.returncode}: {last}")
    return records


def _run(job: Job, emit: Callable[[dict[str, Any]], None]) -> None:
    """Carry a job out in this process."""
    torch.set_num_threads(job.threads)
    if job.float32:
        for module in (euclidean, neighbours):
            module.half_precision_pays = lambda *_: False  # type: ignore[attr-defined]
    device = torch.device(job.device)
    warm = make_features(CLUSTERED, _WARM_ROWS, job.dimension, job.seed)
    for work in _works(job, warm, warm.alpha, device).values():
        work()
    made = make_features(job.kind, job.count, job.dimension, job.seed)
    identities = len(np.unique(made.identities))
    alpha = made.alpha if job.alpha is None else job.alpha
    works = _works(job, made, alpha, device)
    memory = PeakMemory(device)
    for _ in range(job.repeats):
        for name, work in works.items():
            with data_limit(job.allowance_mb):
                seconds, labels = _timed(work, device)
            record = {"work": name, "seconds": seconds, "alpha": alpha, "identities": identities}
            record |= {"host_mb": memory.host_mb(), "device_mb": memory.device_mb()}
            emit(record if labels is None else record | {"labels": _summary(labels, made)})


def _works(job: Job, made: BenchmarkFeatures, alpha: float, device: torch.device) -> dict[str, Work]:
    """Return the works of a job by name."""
    on_cpu = torch.from_numpy(made.features)
    features = on_cpu.to(device)

    def estimate(distance: str) -> StartupAndFinal:
        found = estimate_pseudo_labels(
            features, made.camera_ids, alpha=alpha, distance=distance, correct=True
        )
        return found.startup_labels, found.labels

    known: dict[str, Callable[[], Work]] = {
        REFERENCE: lambda: _full_product(features),
        "jaccard": lambda: lambda: estimate("jaccard"),
        "euclidean": lambda: lambda: estimate("euclidean"),
        "usual jaccard": lambda: lambda: usual_jaccard(on_cpu, made.camera_ids, alpha),
        "usual euclidean": lambda: lambda: usual_euclidean(on_cpu, made.camera_ids, alpha),
    }
    return {name: known[name]() for name in job.works}


def _full_product(features: torch.Tensor) -> Callable[[], None]:
    """Return the reference: X @ X.T in blocks of 2048 rows, each over the last; its memory is taken here."""
    count = len(features)
    block = features.new_zeros(min(_BLOCK_ROWS, count), count).fill_(1)

    def product() -> None:
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


def _summary(labels: StartupAndFinal, made: BenchmarkFeatures) -> dict[str, dict[str, float | int]]:
    """Return what tells a sensible clustering from a degenerate one, before and after correction."""
    summary = {}
    for stage, of_stage in zip(("startup", "final"), labels, strict=True):
        quality = label_quality(of_stage, made.identities)
        summary[stage] = {
            "clusters": quality.clusters,
            "outliers": quality.outliers,
            "largest_cluster_share": quality.largest_cluster_share,
            "f1": quality.f1,
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
