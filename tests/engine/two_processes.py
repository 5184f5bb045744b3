"""Adapts a tiny model in one or two processes and saves what every rank ended with; run by a test.

Usage: two_processes.py PROCESSES FOLDER KEY VALUE ...
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import torch

from nplp.distributed.processes import launch
from nplp.engine.adaptation import AdaptationTrainer
from nplp.engine.pipeline import run
from nplp.engine.setup import base_config, load_config, prepare_output
from nplp.losses.table_contrast import UpdatedTable

CONFIG = str(Path(__file__).parents[2] / "configs" / "NPLP" / "quickstart.yml")


def copied(named: Iterable[tuple[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return tensors by name as they are now."""
    return {name: value.detach().clone() for name, value in named}


def main(folder: str, options: list[str]) -> None:
    """Run the adaptation and save this rank's results, labels, tables and all that training changes."""
    from fastreid.utils import comm

    torch.set_num_threads(1)
    seen: dict[str, list] = {"labels": [], "tables": [], "batches": []}
    run_steps = AdaptationTrainer._run_steps

    def watched(trainer: AdaptationTrainer) -> None:
        seen["labels"].append(trainer.pseudo_labels.state.labels.clone())
        run_steps(trainer)
        losses = trainer.bare_model.criteria.values()
        tables = [loss.table for loss in losses if isinstance(loss, UpdatedTable)]
        seen["tables"].append(torch.cat(tables))
        seen["weights"] = copied(trainer.bare_model.named_parameters())
        seen["buffers"] = copied(trainer.bare_model.named_buffers())
        seen["average"] = copied(trainer.average.weights().items())
        states = trainer.optimizer.state_dict()["state"]
        seen["optimizer"] = copied(
            (f"{number}.{name}", torch.as_tensor(value))
            for number, state in states.items()
            for name, value in state.items()
        )

    AdaptationTrainer._run_steps = watched
    cfg = load_config(argparse.Namespace(config_file=CONFIG, opts=options))
    prepare_output(cfg)
    seen["results"] = run(cfg, base_config(CONFIG), resume=False)
    torch.save(seen, Path(folder) / f"rank{comm.get_rank()}.pth")


if __name__ == "__main__":
    launch(main, int(sys.argv[1]), args=(sys.argv[2], sys.argv[3:]))
