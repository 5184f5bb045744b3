"""Adapts a tiny model in one or two processes and saves what every rank ended with; run by a test.

Usage: two_processes.py PROCESSES FOLDER KEY VALUE ...
"""

import argparse
import sys
from pathlib import Path

import torch

from nplp.compat import launch
from nplp.engine.adaptation import AdaptationTrainer
from nplp.engine.pipeline import run
from nplp.engine.setup import base_config, load_config, prepare_output

CONFIG = str(Path(__file__).parents[2] / "configs" / "NPLP" / "quickstart.yml")


def main(folder: str, options: list[str]) -> None:
    """Run the adaptation and save this rank's labels, tables, weights and results."""
    from fastreid.utils import comm

    torch.set_num_threads(1)
    seen: dict[str, list] = {"labels": [], "tables": [], "batches": []}
    run_steps = AdaptationTrainer._run_steps

    def watched(trainer: AdaptationTrainer) -> None:
        seen["labels"].append(trainer.pseudo_labels.state.labels.clone())
        run_steps(trainer)
        seen["tables"].append(trainer.bare_model.center_contrastive.table.clone())
        seen["weights"] = {key: value.clone() for key, value in trainer.bare_model.named_parameters()}

    AdaptationTrainer._run_steps = watched
    cfg = load_config(argparse.Namespace(config_file=CONFIG, opts=options))
    prepare_output(cfg)
    seen["results"] = run(cfg, base_config(CONFIG), resume=False)
    torch.save(seen, Path(folder) / f"rank{comm.get_rank()}.pth")


if __name__ == "__main__":
    launch(main, int(sys.argv[1]), args=(sys.argv[2], sys.argv[3:]))
