"""The parts of `gpu.py`: what each measures, how large, and how long it may take."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, fields, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from child_process import MeasurementError, read_lines, read_records
from clustered_features import CLUSTERED
from fresh_process import REFERENCE, REFERENCE_TF32, Job, measure
from gpu_models import ModelJob, command_of
from gpu_plan import Note, Part
from nplp.circumstances import circumstances, package_versions, processor, usable_cores
from nplp_synthetic import GENERATOR_VERSION, DomainSpec, DomainStyle, ensure_domain

__all__ = ["build_parts", "card", "render"]

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "fastreid", "torch", "torchvision", "numpy", "scipy", "scikit-learn", "numba", "faiss-cpu", "faiss-gpu"
)  # fmt: skip
TEST_LINE = re.compile(r"^(\S+::.*?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b")
MARKED = re.compile(r"mark\.gpu|@on_devices")
"""What is in a file of tests with the mark; only these are collected, which saves half a minute."""
FAILURE_LINE = re.compile(r"^(?:FAILED|ERROR) (\S+(?:::.*?)?)(?: - (.*))?$")
DISTANCES = ("jaccard", "euclidean")
# Quickstart's: a model trained for minutes must be able to see through the cameras.
STYLE = DomainStyle(
    camera_strength=0.3, domain_strength=1.1, light_jitter=0.4, view_variation=0.3, box_jitter=0.45,
    clutter=0.25, confusable_share=0.25, occlusion_rate=0.07, bystander_rate=0.07,
)  # fmt: skip
DOMAINS = ("plaza", "station")


@dataclass(frozen=True)
class Size:
    """How large everything is.

    Attributes:
        device: "cpu" or "cuda".
        features: images, dimension, least and most seconds of each size of the pseudo-label stage; the
            first compiles its kernels.
        rounds: of the pseudo-label stage, as far as a minute allows.
        model: KEY VALUE pairs of the models that are timed, besides those of `gpu_models.job_config`.
        batch: of a training step.
        extraction: batches that features are extracted of.
        seconds: of one timed case.
        steps: of one run whose repetition is compared.
        domain: of the synthetic pair; both have its size.
        adaptation: KEY VALUE pairs of the whole run.
        threads: of the processor.
        least: seconds that a model's part needs to be worth beginning.
    """

    device: str
    features: tuple[tuple[int, int, float, float], ...]
    rounds: int
    model: dict[str, object]
    batch: int
    extraction: tuple[int, ...]
    seconds: float
    steps: int
    domain: DomainSpec
    adaptation: dict[str, object]
    threads: int
    least: float


FULL = Size(
    device="cuda",
    features=((12936, 1024, 15, 150), (32621, 1024, 15, 60), (126441, 1024, 25, 90), (1000000, 512, 60, 180)),
    rounds=3,
    model={},
    batch=64,
    extraction=(64, 256),
    seconds=2,
    steps=20,
    domain=DomainSpec(
        name="plaza", train_identities=400, test_identities=150, images_per_identity=16, cameras=6,
        style=STYLE,
    ),
    adaptation={
        "MODEL.BACKBONE.DEPTH": "50x", "MODEL.BACKBONE.FEAT_DIM": 2048, "MODEL.HEADS.EMBEDDING_DIM": 1024,
        "INPUT.SIZE_TRAIN": [128, 64], "INPUT.SIZE_TEST": [128, 64], "INPUT.PADDING.SIZE": 8,
        "SOLVER.AMP.ENABLED": True, "NPLP.ITERATIONS": 4, "NPLP.STARTUP_ITERATIONS": 2,
        "NPLP.EPOCHS_PER_ITERATION": 1, "NPLP.ALPHA": 0.0015, "NPLP.SOURCE.MAX_EPOCH": 10,
        "NPLP.SOURCE.STEPS": [7],
    },
    threads=usable_cores(),
    least=20,
)  # fmt: skip
"""ALPHA is 0.6 / 400 identities, as in quickstart."""

NARROW = {"MODEL.BACKBONE.NAME": "build_narrow_resnet_backbone", "MODEL.BACKBONE.FEAT_DIM": 64}
SMALL = {"INPUT.SIZE_TRAIN": [64, 32], "INPUT.SIZE_TEST": [64, 32], "MODEL.HEADS.EMBEDDING_DIM": 32}

MINIATURE = Size(
    device="cpu",
    features=((800, 16, 5, 300), (1200, 16, 5, 90)),
    rounds=1,
    model={**NARROW, **SMALL, "DATALOADER.NUM_WORKERS": 0, "TEST.IMS_PER_BATCH": 16},
    batch=16,
    extraction=(16,),
    seconds=0.2,
    steps=3,
    domain=DomainSpec(
        name="plaza", train_identities=12, test_identities=8, images_per_identity=8, cameras=3,
        image_size=(64, 32), style=STYLE,
    ),
    adaptation={
        **NARROW, **SMALL, "INPUT.PADDING.SIZE": 2, "SOLVER.IMS_PER_BATCH": 16, "DATALOADER.NUM_WORKERS": 0,
        "NPLP.ITERATIONS": 2, "NPLP.STARTUP_ITERATIONS": 1, "NPLP.ALPHA": 0.08, "NPLP.SOURCE.MAX_EPOCH": 1,
        "NPLP.SOURCE.IMS_PER_BATCH": 16,
    },
    threads=1,
    least=3,
)  # fmt: skip


def build_parts(data: Path | None, miniature: bool) -> list[Part]:
    """Return the parts, most valuable first.

    Args:
        data: folder of the rendered pair; None leaves out what needs it.
        miniature: everything small and on the CPU.
    """
    size = MINIATURE if miniature else FULL
    lacks = why_not(data, size)
    *small, largest = size.features

    def stage(count: int, dimension: int, least: float, most: float, where: str = "") -> Part:
        works = DISTANCES if where else (REFERENCE, REFERENCE_TF32, *DISTANCES)
        job = Job(
            CLUSTERED, count, dimension, 0, works, 1 if where else size.rounds, size.threads,
            "cpu" if where else size.device, seconds=most / 3, peak_by_work=True,
        )  # fmt: skip
        return Part(f"pseudo-labels {count}x{dimension}{where}", least, most, partial(pseudo_labels, job))

    def models(kind: str, architecture: str) -> Part:
        from_files = kind == "loader"
        work = partial(model_records, size, kind, architecture, data if from_files else None)
        return Part(f"{kind} {architecture}", size.least, 90, work, lacks if from_files else "")

    return [
        Part("environment", 0, 30, partial(environment, miniature)),
        Part("tests", size.least, 150, tests),
        *(stage(*of_size) for of_size in small),
        models("speed", "NPLP"),
        models("speed", "Baseline"),
        stage(*size.features[0], where=" on the CPU"),
        stage(*largest),
        models("loader", "NPLP"),
        models("repeatability", "NPLP"),
        Part("adaptation", 3 * size.least, 600, partial(adaptation, size, data or Path()), lacks),
        models("loader", "Baseline"),
    ]


def card(miniature: bool) -> str:
    """Return the name of what is measured."""
    return f"CPU: {processor()}" if miniature else torch.cuda.get_device_name()


def environment(miniature: bool, note: Note, seconds: float) -> None:
    """Note date, processor, versions, and the card with its driver."""
    note({**circumstances(), "usable_cores": usable_cores(), "versions": package_versions(PACKAGES)})
    note({"torch_cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()})
    note({"tf32_in_convolutions": torch.backends.cudnn.allow_tf32})
    if not miniature:
        note({"memory_mb": torch.cuda.get_device_properties(0).total_memory / 2**20})
        query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.max.sm", "--format=csv"]
        shown = subprocess.run(query, capture_output=True, text=True, check=True, timeout=seconds).stdout
        note({"nvidia-smi": shown.splitlines()})


def tests(note: Note, seconds: float) -> None:
    """Note how the tests marked gpu end, and the first line of what each failure says.

    Raises:
        MeasurementError: if pytest is missing, is stopped, or a test fails.
    """
    if find_spec("pytest") is None:
        raise MeasurementError("pytest is not installed")
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if MARKED.search(path.read_text("utf-8"))]
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-vv", "-rfE", "-p", "no:cacheprovider"]
    command += ["--continue-on-collection-errors", *sorted(map(str, files))]
    counts: Counter[str] = Counter()
    failures: dict[str, str] = {}

    def take(line: str) -> None:
        if found := TEST_LINE.match(line):
            counts[found[2].lower()] += 1
            if found[2] in ("FAILED", "ERROR"):
                failures.setdefault(found[1], "")
        elif found := FAILURE_LINE.match(line):
            failures[found[1]] = (found[2] or "").strip()[:300]

    try:
        # 1: a test failed; 5: none was chosen.
        read_lines(command, take, None, seconds, (0, 1, 5), ROOT)
    finally:
        note({**counts, "failures": failures})
    if failures:
        raise MeasurementError(f"{len(failures)} failed")


def pseudo_labels(job: Job, note: Note, seconds: float) -> None:
    """Note seconds and peaks of memory of the pseudo-label stage and of the bare product, round by round.

    Equal digests of labels of two parts tell that their labels are equal.

    Raises:
        MeasurementError: if the process fails or is stopped.
    """
    last: dict[str, float] = {}

    def take(record: dict[str, Any]) -> None:
        last[record["work"]] = record["seconds"]
        if record["work"] in DISTANCES:
            references = {name: value for name, value in last.items() if name not in DISTANCES}
            record |= {f"ratio to {name}": record["seconds"] / value for name, value in references.items()}
        note(record)

    measure(job, take, seconds)


def model_records(
    size: Size, kind: str, architecture: str, data: Path | None, note: Note, seconds: float
) -> None:
    """Note what a `ModelJob` measures.

    Raises:
        MeasurementError: if the process fails or is stopped.
    """
    workers = {"DATALOADER.NUM_WORKERS": usable_cores()} | size.model
    options = workers if data is None else workers | domain_options(size.domain, data)
    if architecture == "Baseline":
        # It pools to the width of the backbone.
        options = {key: value for key, value in options.items() if key != "MODEL.HEADS.EMBEDDING_DIM"}
    if data is not None:
        options |= {"DATASETS.NAMES": ("SynthPlaza",), "DATASETS.VERIFY": False}
    job = ModelJob(
        kind,
        architecture,
        size.device,
        pairs_of(options),
        size.batch,
        size.extraction,
        size.seconds,
        size.steps,
        size.threads,
    )
    read_records(command_of(job), note, threads_of(size), seconds)


def adaptation(size: Size, data: Path, note: Note, seconds: float) -> None:
    """Note the seconds by stage and the metrics of a whole run from the source model to the adapted one.

    What a run that is stopped had written is noted as well.

    Raises:
        MeasurementError: if the run fails or is stopped.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "run"
        options = {
            "MODEL.DEVICE": size.device, "DATALOADER.NUM_WORKERS": usable_cores(), "DATASETS.VERIFY": False,
            "NPLP.REPORT": False, **domain_options(size.domain, data),
            **size.adaptation, "OUTPUT_DIR": output,
        }  # fmt: skip
        command = [sys.executable, "tools/train_net.py", "--config-file", "configs/NPLP/quickstart.yml"]
        lines: list[str] = []
        try:
            command += pairs_of(options)
            read_lines(command, lines.append, threads_of(size), seconds, folder=ROOT)
        except MeasurementError:
            note({"last_lines": [line.rstrip() for line in lines[-12:]]})
            raise
        finally:
            note(found_in(output))


def threads_of(size: Size) -> dict[str, str]:
    """Return the environment of a process with the threads of `size`."""
    return {**os.environ, "OMP_NUM_THREADS": str(size.threads)}


def found_in(output: Path) -> dict[str, Any]:
    """Return results and seconds by stage of a run's folder, and how many iterations it has finished."""
    results = output / "results.json"
    known: dict[str, Any] = json.loads(results.read_text("utf-8")) if results.exists() else {}
    known = {name: value for name, value in known.items() if name not in ("versions", "config")}
    history = output / "pseudo_labels.jsonl"
    return {**known, "iterations": len(history.read_text("utf-8").splitlines()) if history.exists() else 0}


def render(data: Path, miniature: bool) -> None:
    """Draw the synthetic pair into `data`, where it is not there yet.

    Raises:
        UserError: if the folder cannot be written.
    """
    for spec in domains(MINIATURE if miniature else FULL):
        ensure_domain(spec, data, progress=True)


def domains(size: Size) -> list[DomainSpec]:
    """Return source and target of the synthetic pair."""
    return [replace(size.domain, name=name) for name in DOMAINS]


def why_not(data: Path | None, size: Size) -> str:
    """Return why the pair in `data` cannot be used, or nothing."""
    if data is None:
        return "no --data: render the pair with --render first"
    manifests = [json.loads(path.read_text("utf-8")) for path in data.glob("*/manifest.json")]
    for spec in domains(size):
        wanted = {"name": spec.name, "train_identities": spec.train_identities, "seed": spec.seed}
        if not any(
            wanted.items() <= found["spec"].items() and found["generator_version"] == GENERATOR_VERSION
            for found in manifests
        ):
            return (
                f"--data {data} has no rendered {spec.name} of this size: render the pair with --render first"
            )
    return ""


def domain_options(spec: DomainSpec, data: Path) -> dict[str, object]:
    """Return the keys that make the built-in domains those of `spec`, looked for in `data`."""
    sizes = ("train_identities", "test_identities", "images_per_identity", "cameras", "seed")
    own: dict[str, object] = {f"DATASETS.SYNTHETIC.{name.upper()}": getattr(spec, name) for name in sizes}
    own |= {"DATASETS.SYNTHETIC.IMAGE_SIZE": list(spec.image_size), "DATASETS.SYNTHETIC.ROOT": data}
    style = {
        f"DATASETS.SYNTHETIC.STYLE.{field.name.upper()}": getattr(spec.style, field.name)
        for field in fields(DomainStyle)
    }
    own = {f"DATASETS.SYNTHETIC.{name.upper()}": getattr(spec, name) for name in sizes}
    return {
        **own,
        "DATASETS.SYNTHETIC.IMAGE_SIZE": list(spec.image_size),
        **style,
        "DATASETS.SYNTHETIC.ROOT": data,
    }


def pairs_of(options: dict[str, object]) -> tuple[str, ...]:
    """Return options as KEY VALUE pairs."""
    return tuple(text for key, value in options.items() for text in (key, str(value)))
