"""Adaptations of fifty steps in float64, and what is seen of them; for tests/methods/test_world_sizes.py.

As a script, one run of each case in several processes: world_size_runs.py PROCESSES FOLDER, with the cases'
words in FOLDER/cases.json; each process saves what it saw as FOLDER/rank0.pth and so on.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

import nplp  # noqa: F401  first: it bridges the toolbox

# isort: split
from fastreid.config import CfgNode
from fastreid.engine.train_loop import HookBase

from method_runs import config_of
from nplp.distributed.processes import launch
from nplp.engine.interruption import Interrupted, stopped_by_signals
from nplp.engine.pipeline import run
from nplp.engine.setup import prepare_output
from nplp.engine.trainer import ReidTrainer


class Witness(HookBase):
    """Sees the losses of each step, the labels of each epoch, and at the end all that trained.

    Args:
        stop_after: the step after which a signal asks the run to stop; 0: never.
    """

    def __init__(self, stop_after: int = 0) -> None:
        self.seen: dict[str, Any] = {"losses": [], "labels": []}
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
        """Note weights, buffers and the method's state."""
        model = self.trainer.bare_model
        for name in ("parameters", "buffers"):
            named = getattr(model, f"named_{name}")()
            self.seen[name] = {key: value.detach().clone() for key, value in named}
        self.seen["method"] = self.trainer.pseudo_labels.state_dict()["method"]


@contextmanager
def in_double() -> Iterator[None]:
    """Let models that are built within the block be of float64."""
    build = ReidTrainer.build_model

    def build_double(cfg: CfgNode) -> torch.nn.Module:
        return build(cfg).double()

    with patch.object(ReidTrainer, "build_model", staticmethod(build_double)):
        yield


def adapt(words: list[str], *, stop_after: int = 0, resume: bool = False) -> dict[str, Any]:
    """Run a case and return what was seen of it."""
    cfg, witness = config_of(words), Witness(stop_after)
    prepare_output(cfg)
    try:
        with in_double(), stopped_by_signals():
            run(cfg, cfg, resume=resume, watchers=[witness])
    except Interrupted:
        witness.seen["stopped"] = True
    return witness.seen


def main(folder: str) -> None:
    """Run all cases and save what this process saw."""
    from fastreid.utils import comm

    torch.set_num_threads(1)
    cases = json.loads((Path(folder) / "cases.json").read_text())
    seen = {name: adapt(words) for name, words in cases.items()}
    torch.save(seen, Path(folder) / f"rank{comm.get_rank()}.pth")


if __name__ == "__main__":
    launch(main, int(sys.argv[1]), args=(sys.argv[2],), device="cpu")
