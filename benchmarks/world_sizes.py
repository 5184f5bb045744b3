#!/usr/bin/env python
"""Train each method for 50 steps in 1, 2 and 4 processes with the same batches, and compare the runs.

    python benchmarks/world_sizes.py                          # a few minutes on two cores
    python benchmarks/world_sizes.py --sizes 1 2 --methods memory

Each method runs in float64 on the CPU from one source model, with NPLP.SAME_AT_ANY_WORLD_SIZE and, for
comparison, without it, where each process mines and augments for itself. A row has the greatest difference
of a step's loss from that of one process, relative to it, whether the labels of every iteration are the
same, the greatest difference of a weight at the end, whether all processes end with the same bits, and the
metrics.
"""

import argparse
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

import nplp  # noqa: F401  first: it bridges the toolbox

# isort: split
from fastreid.config import CfgNode
from fastreid.engine.train_loop import HookBase
from fastreid.utils import comm
from tabulate import tabulate

from nplp.distributed.processes import launch
from nplp.engine.interruption import Interrupted, stopped_by_signals
from nplp.engine.pipeline import run
from nplp.engine.setup import load_config, prepare_output
from nplp.engine.trainer import ReidTrainer
from true_labels import keep_figures

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs" / "NPLP" / "quickstart.yml"
OVERLAYS = {"nplp": "", "memory": "memory", "o2cap": "o2cap"}
"""A file of configs/methods/overlays for each method, without ``.yml``."""
STEPS, ITERATIONS = 25, 2
SHOWN = ("Rank-1", "mAP")

SMALL = {
    "DATASETS.SYNTHETIC.TRAIN_IDENTITIES": 48,
    "DATASETS.SYNTHETIC.TEST_IDENTITIES": 16,
    "DATASETS.SYNTHETIC.IMAGES_PER_IDENTITY": 8,
    "DATASETS.SYNTHETIC.CAMERAS": 4,
    "DATASETS.SYNTHETIC.IMAGE_SIZE": [64, 32],
    "INPUT.SIZE_TRAIN": [32, 16],
    "INPUT.SIZE_TEST": [32, 16],
    "MODEL.DEVICE": "cpu",
    "MODEL.BACKBONE.NAME": "build_narrow_resnet_backbone",
    "MODEL.BACKBONE.FEAT_DIM": 64,
    "MODEL.HEADS.EMBEDDING_DIM": 32,
    "NPLP.REPORT": False,
}
"""What makes the built-in task a matter of seconds."""
OF_SOURCE = {"NPLP.ITERATIONS": 0, "NPLP.SOURCE.MAX_EPOCH": 15, "NPLP.SOURCE.IMS_PER_BATCH": 32}
OF_TARGET = {
    "SOLVER.IMS_PER_BATCH": 16,
    "DATALOADER.NUM_INSTANCE": 2,
    # What each of 4 processes takes.
    "MODEL.NORM_CHUNK": 4,
    "NPLP.STEPS_PER_EPOCH": STEPS,
    "NPLP.ITERATIONS": ITERATIONS,
    "NPLP.STARTUP_ITERATIONS": 1,
    "NPLP.EVAL_PERIOD": 0,
}
OF_METHOD = {
    "nplp": {"NPLP.ALPHA": 0.02},
    "memory": {"NPLP.MEMORY.K1": 8, "NPLP.MEMORY.EPSILON": 0.5},
    "o2cap": {"NPLP.O2CAP.K1": 8, "NPLP.O2CAP.EPSILON": 0.5},
}
"""For targets of so few images a person."""
SAME = {"NPLP.SAME_AT_ANY_WORLD_SIZE": True}

Options = dict[str, Any]
Seen = dict[str, Any]


def configuration(method: str, options: Options) -> CfgNode:
    """Return quickstart's configuration with a method's overlay and keys changed."""
    name = OVERLAYS[method]
    overlays = [str(ROOT / "configs" / "methods" / "overlays" / f"{name}.yml")] if name else []
    words = [str(word) for pair in options.items() for word in pair]
    return load_config(argparse.Namespace(config_file=str(CONFIG), overlay=overlays, opts=words))


@contextmanager
def in_double() -> Iterator[None]:
    """Let models that are built within the block be of float64."""
    build = ReidTrainer.build_model

    def build_double(cfg: CfgNode) -> torch.nn.Module:
        return build(cfg).double()

    with patch.object(ReidTrainer, "build_model", staticmethod(build_double)):
        yield


class Witness(HookBase):
    """Sees the losses of each step, the labels of each epoch, and at the end all that trained.

    Args:
        stop_after: the step after which a signal asks the run to stop; 0: never.
    """

    trainer: Any

    def __init__(self, stop_after: int = 0) -> None:
        self.seen: Seen = {"losses": [], "labels": []}
        self._stop_after = stop_after

    def before_train(self) -> None:
        """Note what every objective returns."""
        model = self.trainer.bare_model
        objective: Callable[..., dict[str, torch.Tensor]] = model.objective

        def noted(output: Any, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
            losses = objective(output, batch)
            self.seen["losses"].append({name: value.item() for name, value in losses.items()})
            return losses

        model.objective = noted

    def before_epoch(self) -> None:
        """Note the labels that the epoch trains on."""
        self.seen["labels"].append(self.trainer.pseudo_labels.state.labels.clone())

    def after_step(self) -> None:
        """Ask to stop where that is wanted."""
        if self.trainer.iter + 1 == self._stop_after:
            os.kill(os.getpid(), signal.SIGTERM)

    def after_train(self) -> None:
        """Note weights, buffers and the memory of the method."""
        model = self.trainer.bare_model
        self.seen["weights"] = {key: value.detach().clone() for key, value in model.named_parameters()}
        self.seen["buffers"] = {key: value.clone() for key, value in model.named_buffers()}
        state = self.trainer.pseudo_labels.state_dict()["method"]
        self.seen["memory"] = {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}


def adapt(method: str, options: Options, *, stop_after: int = 0, resume: bool = False) -> Seen:
    """Run a method in float64 and return what was seen of it, with the metrics of the end."""
    cfg, witness = configuration(method, options), Witness(stop_after)
    prepare_output(cfg)
    try:
        with in_double(), stopped_by_signals():
            results = run(cfg, cfg, resume=resume, overwrite=not resume, watchers=[witness])
            witness.seen["metrics"] = results.get("final", {})
    except Interrupted:
        witness.seen["stopped"] = True
    return witness.seen


def adapt_all(folder: str) -> None:
    """Run all that ``runs.json`` in a folder asks for; each process saves what it saw there."""
    torch.set_num_threads(1)
    runs = json.loads((Path(folder) / "runs.json").read_text(encoding="utf-8"))
    seen = {name: adapt(asked["method"], asked["options"]) for name, asked in runs.items()}
    torch.save(seen, Path(folder) / f"rank{comm.get_rank()}.pth")


def in_processes(size: int, folder: Path, runs: dict[str, tuple[str, Options]]) -> list[dict[str, Seen]]:
    """Run methods in so many processes and return what each saw, by the runs' names.

    Args:
        size: number of processes.
        folder: a new one.
        runs: method and options of each.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    asked = {
        name: {"method": method, "options": {**options, "OUTPUT_DIR": str(folder / name)}}
        for name, (method, options) in runs.items()
    }
    (folder / "runs.json").write_text(json.dumps(asked), encoding="utf-8")
    launch(adapt_all, size, args=(str(folder),), device="cpu")
    return [torch.load(folder / f"rank{rank}.pth", weights_only=True) for rank in range(size)]


def total_losses(ranks: Sequence[Seen]) -> list[float]:
    """Return each step's loss, the mean over the processes."""
    by_step = zip(*(seen["losses"] for seen in ranks), strict=True)
    return [sum(sum(losses.values()) for losses in step) / len(step) for step in by_step]


def equal_bits(one: Seen, other: Seen) -> bool:
    """Tell whether two processes ended with the same weights, buffers and memory."""
    return all(
        one[kind].keys() == other[kind].keys()
        and all(torch.equal(value, other[kind][name]) for name, value in one[kind].items())
        for kind in ("weights", "buffers", "memory")
    )


def compared(ranks: Sequence[Seen], alone: Seen) -> dict[str, Any]:
    """Return how far a run in some processes is from that in one.

    Args:
        ranks: what each process saw.
        alone: what the one process saw.

    Returns:
        A row of the results, as the script's text describes it.
    """
    first = ranks[0]
    losses = zip(total_losses(ranks), total_losses([alone]), strict=True)
    labels = zip(first["labels"], alone["labels"], strict=True)
    gaps = [
        float((first[kind][name].double() - value.double()).abs().max())
        for kind in ("weights", "buffers")
        for name, value in alone[kind].items()
        if value.numel() and first[kind][name].shape == value.shape
    ]
    return {
        "losses": max(abs(ours - theirs) / abs(theirs) for ours, theirs in losses),
        "labels_equal": all(torch.equal(ours, theirs) for ours, theirs in labels),
        "weights": max(gaps),
        "processes_equal": all(equal_bits(first, other) for other in ranks[1:]),
        **{name: first["metrics"][name] for name in SHOWN if name in first["metrics"]},
    }


def source_weights(method: str, folder: Path, common: Options) -> str:
    """Pre-train a method's network in one process and return the file of its weights."""
    output = folder / f"source_{method}"
    cfg = configuration(method, {**common, **OF_SOURCE, "OUTPUT_DIR": str(output)})
    prepare_output(cfg)
    run(cfg, cfg, resume=False, overwrite=True)
    return str(output / "source" / "model_final.pth")


def measure(methods: Sequence[str], sizes: Sequence[int], folder: Path, changed: Options) -> dict[str, Any]:
    """Return the rows of each method, by "with" or "without" the key and by number of processes."""
    common = {**SMALL, "DATASETS.SYNTHETIC.ROOT": str((folder / "images").resolve()), **changed}
    forms: dict[str, Options] = {"with": SAME, "without": {}}
    runs = {}
    for method in methods:
        options = {**common, "NPLP.METHOD": method, **OF_TARGET, **OF_METHOD[method], **changed}
        options["NPLP.SOURCE.WEIGHTS"] = source_weights(method, folder, common)
        runs.update({f"{method} {form}": (method, {**options, **keys}) for form, keys in forms.items()})
    alone = in_processes(1, folder / "1", runs)[0]
    found: dict[str, Any] = {method: {form: {} for form in forms} for method in methods}
    for size in sorted({1, *sizes}):
        ranks = [alone] if size == 1 else in_processes(size, folder / str(size), runs)
        for name in runs:
            method, form = name.split()
            row = compared([seen[name] for seen in ranks], alone[name])
            found[method][form][str(size)] = row
    return found


def table(found: dict[str, Any]) -> str:
    """Return a row of Markdown for each method with and without the key, a figure for each size."""
    rows, sizes = [], [1]
    for method, forms in found.items():
        for form, by_size in forms.items():
            sizes = [int(size) for size in by_size]
            several = [row for size, row in by_size.items() if int(size) > 1]
            rows.append(
                [
                    f"`{method}`",
                    form,
                    " / ".join(f"{row['losses']:.0e}" for row in several),
                    " / ".join("yes" if row["labels_equal"] else "no" for row in several),
                    " / ".join("yes" if row["processes_equal"] else "no" for row in several),
                    *(" / ".join(f"{row[name]:.1f}" for row in by_size.values()) for name in SHOWN),
                ]
            )
    of_several = f"{' / '.join(str(size) for size in sizes if size > 1)} processes"
    of_all = " / ".join(str(size) for size in sizes)
    heads = [
        *("method", "key", f"losses differ by, {of_several}", "labels as in one"),
        *("processes equal", *(f"{name}, {of_all}" for name in SHOWN)),
    ]
    return tabulate(rows, heads, tablefmt="github", disable_numparse=True)


def main() -> None:
    """Measure, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results/world_sizes.json"))
    parser.add_argument("--folder", type=Path, default=Path("logs/world_sizes"))
    parser.add_argument("--methods", nargs="+", choices=OVERLAYS, default=list(OVERLAYS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[1, 2, 4], help="numbers of processes")
    parser.add_argument("pairs", nargs="*", help="KEY VALUE pairs for all runs, after --")
    arguments = parser.parse_args()
    changed = dict(zip(arguments.pairs[::2], arguments.pairs[1::2], strict=True))
    found = measure(arguments.methods, arguments.sizes, arguments.folder, changed)
    sys.stdout.write(table(found) + "\n")
    what = {
        "what": "runs of 50 steps in several processes compared with that in one, float64, percent",
        "options": {**SMALL, **OF_TARGET, **changed},
    }
    keep_figures(arguments.out, what, {"methods": found})


if __name__ == "__main__":
    main()
