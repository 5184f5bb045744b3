#!/usr/bin/env python
"""Measure a training iteration and an extraction, with crops decoded each time and with crops that are kept.

    python benchmarks/training.py                              # the reproduced matrix's network
    python benchmarks/training.py --config-file configs/NPLP/quickstart.yml
    python benchmarks/training.py --images 13000 --size 256 128 --backbone build_osnet_backbone --depth x0_25
    python benchmarks/training.py --modes --config-file configs/NPLP/real/pku.yml --images 256 --size 256 128
    python benchmarks/training.py --augmentation --config-file configs/NPLP/quickstart.yml

`before` reads as the toolbox does: each image is decoded, and augmented by the toolbox's own steps. `decoded`
has augmentation in one pass; with `kept` the crops are kept from the second time on. All train on the same
batches, taking turns. Times are of the processor, which a busy machine does not change much.

With `--modes` a step is measured as it is, with channels last, with bfloat16, with both and, with
`--compile`, compiled; `--profile` says where the time of a step goes, and `--write` adds the network to
docs/results/training_modes.json and to the table of docs/faster.md.

With `--augmentation` crops are kept, and augmented one by one when they are read, or all of a batch at once
(`INPUT.ON_DEVICE`).
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from fastreid.config import CfgNode
from PIL import Image
from tabulate import tabulate
from torch.profiler import ProfilerActivity, profile

from nplp.circumstances import circumstances, commit
from nplp.config import source_config
from nplp.data import augmentation, loaders
from nplp.data.datasets import Item, index_cameras, load_training_items
from nplp.data.decoded import crops_kept
from nplp.data.loaders import TrainSet, build_test_loader, build_train_loader
from nplp.engine.setup import load_config
from nplp.engine.trainer import ReidTrainer
from nplp.files import write_atomically
from page_part import write_part

PER_IDENTITY = 16
ROOT = Path(__file__).parents[1]
MODES_FILE = ROOT / "docs" / "results" / "training_modes.json"
PAGE, BEGIN = ROOT / "docs" / "faster.md", "<!-- modes -->"
CHANNELS_LAST = ("MODEL.CHANNELS_LAST", True)
MODES: dict[str, tuple[tuple[Any, ...], bool]] = {
    "plain": ((), False),
    "channels_last": (CHANNELS_LAST, False),
    "bfloat16": ((), True),
    "channels_last, bfloat16": (CHANNELS_LAST, True),
}
"""Ways to compute a step: options, and whether the forward pass is in bfloat16."""


@contextmanager
def read_as_before() -> Iterator[None]:
    """Give loaders that are built within the block the toolbox's own steps."""
    with (
        patch.object(loaders, "of_pixels", augmentation._Through),
        patch.object(loaders, "_collate", loaders.fast_batch_collator),
    ):
        yield


def draw_images(folder: Path, count: int) -> list[Item]:
    """Write as many noisy JPEGs of 128 x 64, of 16 an identity, in six cameras."""
    rng = np.random.default_rng(0)
    items = []
    for number in range(count):
        path = folder / f"{number:06d}.jpg"
        small = Image.fromarray(rng.integers(0, 256, (16, 8, 3), dtype=np.uint8))
        small.resize((64, 128), Image.Resampling.BICUBIC).save(path, quality=90)
        items.append((str(path), str(number // PER_IDENTITY), str(number % 6)))
    return items


class Measured:
    """Training in one mode: a model, its batches and the seconds of each step."""

    def __init__(self, name: str, cfg: CfgNode, items: list[Item], bfloat16: bool = False) -> None:
        """Build all, and go over each image twice."""
        self.name, self.cfg, self.items, self.bfloat16 = name, cfg, items, bfloat16
        torch.manual_seed(0)
        self.model = ReidTrainer.build_model(cfg).train()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-4)
        labels = np.unique([item[1] for item in items], return_inverse=True)[1]
        train_set = TrainSet(cfg, items, labels, index_cameras(items))
        self.batches = iter(build_train_loader(train_set, num_batches=10**9, seed=0))
        self.loading: list[float] = []
        self.computing: list[float] = []
        self.first_pass, self.extraction = self.extract(), self.extract()

    def extract(self) -> float:
        """Return the seconds of reading all images once, without the network."""
        start = time.process_time()
        for _ in build_test_loader(self.cfg, self.items):
            pass
        return time.process_time() - start

    def step(self) -> None:
        """Take one step."""
        start = time.process_time()
        batch = next(self.batches)
        loaded = time.process_time()
        with torch.autocast("cpu", torch.bfloat16) if self.bfloat16 else nullcontext():
            losses = self.model(batch)
        sum(losses.values()).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.loading.append(loaded - start)
        self.computing.append(time.process_time() - loaded)

    def record(self) -> dict[str, float]:
        """Return the medians, in milliseconds, and the seconds of reading all images once."""
        loading, computing = (1000 * statistics.median(each) for each in (self.loading, self.computing))
        return {
            "loading_ms": round(loading, 1),
            "computing_ms": round(computing, 1),
            "iteration_ms": round(loading + computing, 1),
            "reading_all_first_s": round(self.first_pass, 2),
            "reading_all_again_s": round(self.extraction, 2),
        }


def configured(args: argparse.Namespace, identities: int) -> CfgNode:
    """Return the configuration, with one class an identity."""
    options: list[Any] = ["MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", 0, "DATASETS.VERIFY", False]
    options += ["MODEL.HEADS.NUM_CLASSES", identities] if identities else []
    if args.size:
        options += ["INPUT.SIZE_TRAIN", list(args.size), "INPUT.SIZE_TEST", list(args.size)]
    if args.backbone:
        options += ["MODEL.BACKBONE.NAME", args.backbone]
    if args.depth:
        options += ["MODEL.BACKBONE.DEPTH", args.depth]
    options = [str(each) for each in options]
    # The pre-training's losses need no iteration's tables.
    return source_config(load_config(argparse.Namespace(config_file=args.config_file, opts=options)))


def _take_turns(runs: list[Measured], steps: int) -> None:
    for number in range(steps):
        for run in runs:
            # What augmentation draws.
            torch.manual_seed(number)
            run.step()


def _in_modes(args: argparse.Namespace, cfg: CfgNode, items: list[Item]) -> dict[str, Any]:
    """Return what a step takes in each mode, and its ratio to the plain one."""
    modes = {**MODES, **({"compiled": (CHANNELS_LAST, False)} if args.compile else {})}
    runs = []
    for name, (options, bfloat16) in modes.items():
        changed = cfg.clone()
        changed.defrost()
        changed.merge_from_list(list(options))
        runs.append(Measured(name, changed, items, bfloat16))
        if name == "compiled":
            runs[-1].model.backbone.compile()
        runs[-1].step()  # compiles, and finds kernels
        runs[-1].computing.clear()
    _take_turns(runs, args.steps)
    if args.profile:
        for run in runs:
            with profile(activities=[ProfilerActivity.CPU]) as profiled:
                run.step()
            table = profiled.key_averages().table(sort_by="self_cpu_time_total", row_limit=12)
            sys.stderr.write(f"{run.name}\n{table}\n")
            run.computing.pop()
    milliseconds = {run.name: 1000 * statistics.median(run.computing) for run in runs}
    return {
        name: {"computing_ms": round(value, 1), "plain_over_this": round(milliseconds["plain"] / value, 2)}
        for name, value in milliseconds.items()
    }


def _one_by_one_or_at_once(args: argparse.Namespace, cfg: CfgNode, items: list[Item]) -> dict[str, Any]:
    """Return what an iteration takes with crops that are augmented one by one, and with whole batches."""
    at_once = cfg.clone()
    at_once.defrost()
    at_once.INPUT.ON_DEVICE = True
    with crops_kept(cfg):
        runs = [Measured("one_by_one", cfg, items), Measured("at_once", at_once, items)]
        _take_turns(runs, args.steps)
    # Both read the same crops: how long that takes says nothing of them.
    results = {
        run.name: {key: value for key, value in run.record().items() if key.endswith("_ms")} for run in runs
    }
    ratios = {
        f"{part}_one_by_one_over_at_once": round(
            results["one_by_one"][f"{part}_ms"] / results["at_once"][f"{part}_ms"], 2
        )
        for part in ("loading", "iteration")
    }
    return {**ratios, **results}


def modes_table(kept: dict[str, Any]) -> str:
    """Return how many times as fast each mode is as the plain one, by network."""
    names = list(dict.fromkeys(name for found in kept.values() for name in found["modes"]))
    lines = [
        [
            network,
            f"{found['modes']['plain']['computing_ms']:.0f} ms",
            *(
                f"{found['modes'][name]['plain_over_this']:.2f} x" if name in found["modes"] else ""
                for name in names[1:]
            ),
            f"{found['processor']}, {found['threads']} thread(s), {found['date']}",
        ]
        for network, found in kept.items()
    ]
    return tabulate(lines, ["network", *names, "where"], "github", disable_numparse=True)


def write_modes(cfg: CfgNode, found: dict[str, Any]) -> None:
    """Add what was measured of a network to the figures and to the page."""
    backbone = cfg.MODEL.BACKBONE
    name = backbone.NAME.removeprefix("build_").removesuffix("_backbone")
    depth = f" {backbone.DEPTH}" if name != "narrow_resnet" else f", {backbone.FEAT_DIM} channels"
    network = f"{name}{depth}, {' x '.join(map(str, cfg.INPUT.SIZE_TRAIN))}, batch {cfg.SOLVER.IMS_PER_BATCH}"
    kept = json.loads(MODES_FILE.read_text(encoding="utf-8")) if MODES_FILE.is_file() else {}
    kept[network] = {
        **circumstances(),
        "commit": commit(),
        "threads": torch.get_num_threads(),
        "modes": found,
    }
    write_atomically(MODES_FILE, json.dumps(kept, indent=2) + "\n")
    write_part(PAGE, BEGIN, modes_table(kept))


def _kept_or_not(args: argparse.Namespace, cfg: CfgNode, items: list[Item]) -> dict[str, Any]:
    """Return what an iteration takes with crops that are read as before, decoded at once, and kept."""
    with read_as_before():
        runs = [Measured("before", cfg, items)]
    runs.append(Measured("decoded", cfg, items))
    with crops_kept(cfg):
        runs.append(Measured("kept", cfg, items))
        _take_turns(runs, args.steps)
    same = all(
        torch.equal(ours, theirs)
        for run in runs[1:]
        for ours, theirs in zip(runs[0].model.parameters(), run.model.parameters(), strict=True)
    )
    results = {run.name: run.record() for run in runs}
    ratio = results["before"]["iteration_ms"] / results["kept"]["iteration_ms"]
    return {"same_weights": same, "before_over_kept": round(ratio, 2), **results}


def main() -> None:
    """Measure, and print a JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", default="configs/NPLP/reproduce/p2s.yml", metavar="FILE")
    parser.add_argument(
        "--images", type=int, default=0, metavar="N", help="draw as many instead of the source's"
    )
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="of the crops in training")
    parser.add_argument("--backbone", metavar="NAME", help="another backbone")
    parser.add_argument("--depth", metavar="NAME", help="of the backbone")
    parser.add_argument("--steps", type=int, default=15, metavar="N")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--modes", action="store_true", help="compare ways to compute a step instead")
    what.add_argument("--augmentation", action="store_true", help="compare ways to augment instead")
    parser.add_argument("--compile", action="store_true", help="with --modes: compiled too, minutes at first")
    parser.add_argument("--write", action="store_true", help="with --modes: keep the figures")
    parser.add_argument("--profile", action="store_true", help="with --modes: show what takes the time")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cfg = configured(args, 0)
        items = draw_images(Path(folder), args.images) if args.images else load_training_items(cfg)
        cfg = configured(args, len({item[1] for item in items}))
        measure = _kept_or_not
        if args.modes or args.augmentation:
            measure = _in_modes if args.modes else _one_by_one_or_at_once
        measured = measure(args, cfg, items)
        found = {"images": len(items), **measured}
        if args.modes and args.write:
            write_modes(cfg, measured)
    sys.stdout.write(json.dumps({**circumstances(), "commit": commit(), **found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
