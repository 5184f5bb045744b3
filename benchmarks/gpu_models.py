"""Speed, memory and repeatability of whole models in a process of its own, which reports line by line.

Run by `gpu.py`, not by hand: the process gets a `ModelJob` as JSON and prints one JSON object a line. A case
that fails, be it for want of memory, is a record that says so, and the next case goes on.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import nplp  # noqa: F401  first: it bridges the toolbox

# isort: split
from fastreid.config import CfgNode
from fastreid.engine.train_loop import SimpleTrainer
from fastreid.utils.events import EventStorage, get_event_storage

from nplp.data.extraction import extract_features
from nplp.data.loaders import TrainSet, build_train_loader
from nplp.engine.setup import load_config
from nplp.engine.supervised import load_labelled
from nplp.engine.trainer import ReidTrainer
from nplp.host.amp import AMPTrainer
from peak_memory import PeakMemory

__all__ = ["ModelJob", "command_of", "job_config"]

ROOT = Path(__file__).resolve().parents[1]
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
IDENTITIES = 751
INSTANCES = 4
WARM_STEPS = 3
BLOCK_STEPS = 5

Case = tuple[dict[str, Any], Callable[[], dict[str, Any]]]
"""What a record says of a case, and what measures it."""


@dataclass(frozen=True)
class ModelJob:
    """What one process measures.

    Attributes:
        kind: "speed" of training steps and extraction from tensors, "loader" for both from image files, or
            "repeatability" of training steps.
        architecture: "NPLP" or "Baseline", the toolbox's.
        device: "cpu" or "cuda".
        options: KEY VALUE pairs over the configuration of the architecture.
        batch: images of a training step.
        extraction: sizes of the batches that features are extracted of.
        seconds: that one case may take, without warming up.
        steps: of one run whose repetition is compared.
        threads: of torch.
    """

    kind: str
    architecture: str
    device: str
    options: tuple[str, ...]
    batch: int
    extraction: tuple[int, ...]
    seconds: float
    steps: int
    threads: int


def command_of(job: ModelJob) -> list[str]:
    """Return the command that carries a job out in a process of its own."""
    return [sys.executable, __file__, json.dumps(asdict(job))]


def job_config(job: ModelJob) -> CfgNode:
    """Return the configuration of a job: the paper's for NPLP, and the stock model with the same backbone."""
    shared = {
        "MODEL.DEVICE": job.device, "MODEL.BACKBONE.PRETRAIN": False, "MODEL.BACKBONE.DEPTH": "50x",
        "MODEL.BACKBONE.FEAT_DIM": 2048, "INPUT.SIZE_TRAIN": [256, 128], "INPUT.SIZE_TEST": [256, 128],
        "SOLVER.IMS_PER_BATCH": job.batch, "DATALOADER.NUM_INSTANCE": INSTANCES,
    }  # fmt: skip
    name = "Base-NPLP.yml"
    if job.architecture == "Baseline":
        name = "synthetic_baseline.yml"
        shared["MODEL.HEADS.NUM_CLASSES"] = IDENTITIES
    pairs = [text for key, value in shared.items() for text in (key, str(value))]
    config_file = str(ROOT / "configs" / "NPLP" / name)
    return load_config(argparse.Namespace(config_file=config_file, opts=[*pairs, *job.options]))


def run(job: ModelJob, emit: Callable[[dict[str, Any]], None]) -> None:
    """Carry a job out in this process."""
    torch.set_num_threads(job.threads)
    cfg, device = job_config(job), torch.device(job.device)
    kinds: dict[str, Callable[[ModelJob, CfgNode, torch.device], Iterator[Case]]] = {
        "speed": speed_cases,
        "loader": loader_cases,
        "repeatability": repeatability_cases,
    }
    for described, case in kinds[job.kind](job, cfg, device):
        record = {"architecture": job.architecture, **described}
        try:
            record |= case()
        except Exception as error:  # noqa: BLE001  whatever it is, the other cases are still worth measuring
            record["failed"] = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        emit(record)
        # A model that is part of a cycle would still be there in the next case's memory.
        gc.collect()


def speed_cases(job: ModelJob, cfg: CfgNode, device: torch.device) -> Iterator[Case]:
    """Give training steps and extraction of drawn tensors that lie on the device, by precision."""
    for precision in precisions(device):

        def train(precision: str = precision) -> dict[str, Any]:
            memory = PeakMemory(device)
            batch = next(drawn_batches(cfg, job.batch, device))
            with Steps(cfg, repeated(batch), PRECISIONS[precision]) as steps:
                found = rate(steps.run, job.batch, job.seconds, device)
            return {**found, "device_mb": memory.device_mb()}

        yield {"task": "training step", "precision": precision, "batch": job.batch}, train
    for precision in precisions(device):
        for size in job.extraction:

            def extract(precision: str = precision, size: int = size) -> dict[str, Any]:
                memory = PeakMemory(device)
                found = rate(embedding(cfg, size, device, PRECISIONS[precision]), size, job.seconds, device)
                return {**found, "device_mb": memory.device_mb()}

            yield {"task": "extraction", "precision": precision, "batch": size}, extract


def loader_cases(job: ModelJob, cfg: CfgNode, device: torch.device) -> Iterator[Case]:
    """Give the loader alone, training steps from it and extraction from files, decoded and transformed."""
    items, labels, cameras = load_labelled(cfg)
    train_set = TrainSet(cfg, items, labels, cameras)
    about = {"workers": cfg.DATALOADER.NUM_WORKERS, "batch": job.batch, "images": len(items)}

    def batches() -> Iterator[dict[str, Any]]:
        return iter(build_train_loader(train_set, num_batches=100_000, seed=0))

    def load() -> dict[str, Any]:
        source = batches()
        return rate(lambda: next(source), job.batch, job.seconds, device)

    yield {"task": "loader alone", **about}, load
    for precision in precisions(device)[:2]:

        def train(precision: str = precision) -> dict[str, Any]:
            with Steps(cfg, batches(), PRECISIONS[precision], train_set.num_classes) as steps:
                return rate(steps.run, job.batch, job.seconds, device)

        yield {"task": "training step from files", "precision": precision, **about}, train

    def extract() -> dict[str, Any]:
        model = ReidTrainer.build_model(cfg)
        some = items[: 4 * cfg.TEST.IMS_PER_BATCH]
        extract_features(cfg, model, some[: cfg.TEST.IMS_PER_BATCH], "warming up")
        start = time.perf_counter()
        extract_features(cfg, model, some, "extraction")
        return {"images_per_second": len(some) / (time.perf_counter() - start), "extracted": len(some)}

    yield {"task": "extraction from files", "precision": "float32", **about}, extract


def repeatability_cases(job: ModelJob, cfg: CfgNode, device: torch.device) -> Iterator[Case]:
    """Give pairs of equal runs of training steps, with and without torch's deterministic algorithms."""
    for deterministic in (False, True):
        for precision in precisions(device)[:2]:

            def compare(precision: str = precision, deterministic: bool = deterministic) -> dict[str, Any]:
                with deterministic_algorithms(deterministic) as told:
                    first, second = (trained(job, cfg, device, PRECISIONS[precision]) for _ in range(2))
                return {**compared(first, second), "without_deterministic_form": sorted(told)}

            yield {"task": "repeat", "precision": precision, "deterministic": deterministic}, compare


def precisions(device: torch.device) -> list[str]:
    """Return the names of the precisions that a device trains in, float32 first."""
    return [name for name in PRECISIONS if device.type == "cuda" or name != "float16"]


class Steps:
    """Training steps as the trainer takes them, its losses written to an event storage.

    Attributes:
        model: the model that is trained.
    """

    def __init__(
        self,
        cfg: CfgNode,
        batches: Iterator[dict[str, Any]],
        dtype: torch.dtype | None,
        identities: int = IDENTITIES,
    ) -> None:
        """Build model and optimiser from ``cfg``; ``dtype`` None trains in float32."""
        torch.manual_seed(0)
        self.model = ReidTrainer.build_model(cfg)
        if "CenterContrastiveLoss" in getattr(self.model, "criteria", ()):
            table = self.model.criteria["CenterContrastiveLoss"]
            centroids = torch.randn(identities, self.model.heads.embedding_dim)
            table.reset(centroids.relu_())
        optimizer, wrapper = ReidTrainer.build_optimizer(cfg, self.model)
        arguments = (self.model, batches, optimizer, wrapper)
        self._trainer = SimpleTrainer(*arguments) if dtype is None else AMPTrainer(*arguments, dtype=dtype)
        self._trainer.iter = 0
        self._storage = EventStorage(0)

    def __enter__(self) -> Steps:
        self._storage.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._storage.__exit__(*error)

    def run(self) -> None:
        """Take one step."""
        self._trainer.run_step()


def drawn_batches(cfg: CfgNode, size: int, device: torch.device) -> Iterator[dict[str, torch.Tensor]]:
    """Yield batches of noise for ever: `size` images of the training size, four of each identity."""
    generator = torch.Generator().manual_seed(0)
    while True:
        images = torch.rand(size, 3, *cfg.INPUT.SIZE_TRAIN, generator=generator) * 255
        identities = torch.randperm(IDENTITIES, generator=generator)[: max(1, size // INSTANCES)]
        targets = identities.repeat_interleave(INSTANCES)[:size]
        yield {"images": images.to(device), "targets": targets.to(device)}


def repeated(batch: dict[str, torch.Tensor]) -> Iterator[dict[str, torch.Tensor]]:
    """Yield one batch for ever, its images new each time, as the stock model normalises them in place."""
    while True:
        yield {**batch, "images": batch["images"].clone()}


def embedding(
    cfg: CfgNode, size: int, device: torch.device, dtype: torch.dtype | None
) -> Callable[[], torch.Tensor]:
    """Return what embeds a batch of noise and brings the features to the CPU."""
    torch.manual_seed(0)
    model = ReidTrainer.build_model(cfg).eval()
    images = next(drawn_batches(cfg, size, device))["images"]

    @torch.no_grad()
    def embed() -> torch.Tensor:
        mixed = nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)
        with mixed:
            return model({"images": images.clone()}).float().cpu()

    return embed


def rate(step: Callable[[], object], images: int, seconds: float, device: torch.device) -> dict[str, Any]:
    """Return the images a second of a step: the median of blocks of steps, and the slowest and fastest.

    Blocks are measured until `seconds` have passed, at least one.
    """
    for _ in range(WARM_STEPS):
        step()
    rates: list[float] = []
    begin = time.perf_counter()
    while not rates or time.perf_counter() - begin < seconds:
        synchronize(device)
        start = time.perf_counter()
        for _ in range(BLOCK_STEPS):
            step()
        synchronize(device)
        rates.append(BLOCK_STEPS * images / (time.perf_counter() - start))
    return {
        "images_per_second": statistics.median(rates),
        "slowest": min(rates),
        "fastest": max(rates),
        "blocks": len(rates),
    }


def synchronize(device: torch.device) -> None:
    """Wait until the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def deterministic_algorithms(wanted: bool) -> Iterator[set[str]]:
    """Let torch choose deterministic algorithms; after the block the set names the operations without one."""
    told: set[str] = set()
    before = torch.are_deterministic_algorithms_enabled()
    warned_only = torch.is_deterministic_algorithms_warn_only_enabled()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.use_deterministic_algorithms(wanted, warn_only=True)
        try:
            yield told
        finally:
            torch.use_deterministic_algorithms(before, warn_only=warned_only)
    texts = [str(warning.message) for warning in caught]
    told |= {text.split()[0] for text in texts if "deterministic implementation" in text}


def trained(
    job: ModelJob, cfg: CfgNode, device: torch.device, dtype: torch.dtype | None
) -> tuple[list[float], dict[str, torch.Tensor], float]:
    """Return the losses of the steps of a fresh run, the weights after them and the seconds they took."""
    losses = []
    # Drawn before the clock starts: it takes as long as a step.
    batches = iter(list(itertools.islice(drawn_batches(cfg, job.batch, device), job.steps)))
    with Steps(cfg, batches, dtype) as steps:
        synchronize(device)
        start = time.perf_counter()
        for _ in range(job.steps):
            steps.run()
            losses.append(float(get_event_storage().latest()["total_loss"][0]))
        synchronize(device)
        seconds = time.perf_counter() - start
        weights = {name: value.detach().cpu() for name, value in steps.model.state_dict().items()}
    return losses, weights, seconds


def compared(
    first: tuple[list[float], dict[str, torch.Tensor], float],
    second: tuple[list[float], dict[str, torch.Tensor], float],
) -> dict[str, Any]:
    """Return how far two runs are the same to the bit."""
    alike = [one == other for one, other in zip(first[0], second[0], strict=True)]
    differing = [name for name, value in first[1].items() if not torch.equal(value, second[1][name])]
    largest = max(
        (float((first[1][name].double() - second[1][name].double()).abs().max()) for name in differing),
        default=0.0,
    )
    return {
        "steps": len(alike), "equal_losses_until_step": alike.index(False) if False in alike else len(alike),
        "tensors": len(first[1]), "differing_tensors": len(differing), "largest_difference": largest,
        "seconds": [first[2], second[2]],
    }  # fmt: skip


def parsed(text: str) -> ModelJob:
    """Return a job from its JSON."""
    fields: dict[str, Any] = json.loads(text)
    return ModelJob(**{name: _frozen(value) for name, value in fields.items()})


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


if __name__ == "__main__":
    # cuBLAS reads it when it starts; without it no product is deterministic.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    stream = sys.stdout
    # What a library prints must not be taken for a record.
    with redirect_stdout(sys.stderr):
        run(parsed(sys.argv[1]), lambda record: print(json.dumps(record), file=stream, flush=True))
