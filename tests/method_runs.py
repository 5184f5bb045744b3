"""Tiny adaptations by each method, and what is seen of them; for tests/methods/test_every_method.py.

As a script, one run of each case in several processes: method_runs.py PROCESSES FOLDER, with the cases' words
in FOLDER/cases.json; each process saves what it saw as FOLDER/rank0.pth and so on.
"""

import argparse
import json
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import nplp  # noqa: F401  first: it bridges the toolbox

# isort: split
from fastreid.config import CfgNode
from fastreid.engine.train_loop import HookBase

from nplp.distributed.processes import launch
from nplp.engine.interruption import Interrupted, stopped_by_signals
from nplp.engine.pipeline import run
from nplp.engine.setup import load_config, prepare_output
from tiny import tiny_options

ROOT = Path(__file__).parents[1]
QUICKSTART = ROOT / "configs" / "NPLP" / "quickstart.yml"
OVERLAYS = ROOT / "configs" / "methods" / "overlays"

STEPS, ITERATIONS = 4, 3
SHARE = 8
"""Images of a batch in each of two processes, and of a chunk of the batch norms in one."""
COMMON = {
    "NPLP.STEPS_PER_EPOCH": STEPS,
    "NPLP.EPOCHS_PER_ITERATION": 1,
    "NPLP.ITERATIONS": ITERATIONS,
    "NPLP.STARTUP_ITERATIONS": 1,
    "NPLP.EVAL_PERIOD": 0,
    "SOLVER.IMS_PER_BATCH": 2 * SHARE,
    "DATALOADER.NUM_INSTANCE": 4,
    # One process then sees just what two see together: the same pixels, normalised by the same statistics.
    "MODEL.NORM_CHUNK": SHARE,
    **{f"INPUT.{name}.ENABLED": False for name in ("FLIP", "PADDING", "REA")},
    # Nothing is evaluated: how good tiny models are tells nothing.
    "DATASETS.TESTS": "()",
    "DATASETS.VERIFY": False,
}


@dataclass(frozen=True)
class Case:
    """A method at the size of seconds.

    Attributes:
        overlay: a file of configs/methods/overlays, without ``.yml``; empty: none.
        options: keys and values besides, such as fewer neighbours for 96 images. ``{weights}`` in a text
            is the file that the run's model begins with.
        state_stays: whether the method's state is that of the first iteration, and labels alone change.
    """

    overlay: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    state_stays: bool = False

    def words(self, name: str, synthetic_root: Path, output: Path, weights: Path | None = None) -> list[str]:
        """Return the overlay's path, or an empty word, and the KEY VALUE pairs of a run."""
        pairs = {**COMMON, "NPLP.METHOD": name, **self.options}
        if weights is not None:
            pairs["NPLP.SOURCE.WEIGHTS"] = weights
        overlay = str(OVERLAYS / f"{self.overlay}.yml") if self.overlay else ""
        texts = [str(word).replace("{weights}", str(weights)) for pair in pairs.items() for word in pair]
        return [overlay, *tiny_options(synthetic_root, output), *texts]


def config_of(words: list[str]) -> CfgNode:
    """Return the configuration of a case's words."""
    overlays = [words[0]] if words[0] else []
    return load_config(argparse.Namespace(config_file=str(QUICKSTART), overlay=overlays, opts=words[1:]))


class Watcher(HookBase):
    """Sees labels and the method's state when training begins, after its first step and at the end.

    Args:
        stop_after: the step after which a signal asks the run to stop; 0: never.
    """

    def __init__(self, stop_after: int = 0) -> None:
        self.seen: dict[str, Any] = {}
        self._stop_after = stop_after

    def before_step(self) -> None:
        """Note how the first step begins."""
        if self.trainer.iter == 0:
            self.seen["begun"] = self._state()

    def after_step(self) -> None:
        """Note what the first step and the last one did; ask to stop where that is wanted."""
        done = self.trainer.iter + 1
        if done == 1:
            self.seen["after a step"] = self._state()
        if done == STEPS * ITERATIONS:
            self.seen["ended"] = self._state()
            self.seen["weights"] = _copied(self.trainer.trained.state_dict())
        if done == self._stop_after:
            os.kill(os.getpid(), signal.SIGTERM)

    def _state(self) -> dict[str, Any]:
        state = self.trainer.pseudo_labels.state_dict()
        return _copied({"labels": state["labels"], "method": state["method"]})


def _copied(value: Any) -> Any:
    """Return tensors, or what holds some, as they are now."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(item) for item in value]
    return value


def adapt(words: list[str], *, stop_after: int = 0, resume: bool = False) -> dict[str, Any]:
    """Run a case and return what was seen of it."""
    cfg, watcher = config_of(words), Watcher(stop_after)
    prepare_output(cfg)
    try:
        with stopped_by_signals():
            run(cfg, cfg, resume=resume, watchers=[watcher])
    except Interrupted:
        watcher.seen["stopped"] = True
    return watcher.seen


def main(folder: str) -> None:
    """Run all cases and save what this process saw."""
    from fastreid.utils import comm

    torch.set_num_threads(1)
    cases = json.loads((Path(folder) / "cases.json").read_text())
    seen = {name: adapt(words) for name, words in cases.items()}
    torch.save(seen, Path(folder) / f"rank{comm.get_rank()}.pth")


if __name__ == "__main__":
    launch(main, int(sys.argv[1]), args=(sys.argv[2],), device="cpu")
