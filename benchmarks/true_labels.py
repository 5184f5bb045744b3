"""Train each method with the true identities in place of its clusters, on the built-in synthetic domains.

A method that is implemented right ends far above the direct transfer then: what is left is what its loss and
its memory do. Both runs of a method start from the same source model.

Usage: python benchmarks/true_labels.py [--out docs/results/true_labels.json] [--folder logs/true_labels]
       [METHOD ...] [KEY VALUE ...]
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastreid.config import CfgNode

from nplp.circumstances import circumstances, package_versions
from nplp.clustering import PseudoLabels
from nplp.data.datasets import index_cameras, index_identities, load_training_items
from nplp.engine.pipeline import run
from nplp.engine.setup import load_config, prepare_output
from nplp.errors import UserError
from nplp.methods import METHODS, DistanceSettings, Labelling, Method

CONFIGS = {"nplp": "configs/NPLP/quickstart.yml", "memory": "configs/methods/memory_quickstart.yml"}
SHOWN = ("Rank-1", "mAP")


def labelling_of(identities: np.ndarray) -> Labelling:
    """Return the true identities [N] int64, 0..c-1, as if they were an iteration's clusters."""
    none = np.empty(0)
    empty = none.astype(np.int64)
    estimate = PseudoLabels(identities, identities, 0.5, 0.5, none, empty, empty, 0, 0, 0.5, "")
    return Labelling(estimate, DistanceSettings())


@contextmanager
def true_labels(
    name: str, change: Callable[[np.ndarray, np.ndarray], np.ndarray] = lambda identities, _: identities
) -> Iterator[None]:
    """Replace the clustering of a method by the identities, within the block.

    Args:
        name: of the method.
        change: makes labels [N] int64, 0..c-1, of identities [N] and cameras [N]; by default they stay.
    """
    builder = METHODS[name]

    def build(cfg: CfgNode, model: Any) -> Method:
        method: Any = builder(cfg, model)
        items = load_training_items(cfg)
        identities = index_identities(items)
        if identities is None or (identities < 0).any():
            raise UserError("DATASETS.NAMES must be sets whose people are all known")
        labels = change(identities, index_cameras(items))
        clustering = method.label

        def label(*arguments: Any) -> Labelling:
            clustering(*arguments)  # a method counts its iterations there
            return labelling_of(labels)

        method.label = label
        return method

    METHODS[name] = build
    try:
        yield
    finally:
        METHODS[name] = builder


def train(cfg: CfgNode) -> dict[str, dict[str, float]]:
    """Train with true labels and return Rank-1 and mAP of the direct transfer and of the end."""
    prepare_output(cfg)
    with true_labels(cfg.NPLP.METHOD):
        results = run(cfg, cfg, resume=False, overwrite=True)
    return {stage: {key: results[stage][key] for key in SHOWN} for stage in ("direct_transfer", "final")}


def keep_figures(path: Path, what: dict[str, Any], figures: dict[str, Any]) -> None:
    """Write figures as JSON, between what they are and the circumstances of their making."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        **what,
        **circumstances(),
        "threads": torch.get_num_threads(),
        "versions": package_versions(["torch", "fastreid"]),
        **figures,
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Train, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results/true_labels.json"))
    parser.add_argument("--folder", type=Path, default=Path("logs/true_labels"))
    parser.add_argument("words", nargs="*", help="methods, then KEY VALUE pairs for all of them")
    arguments = parser.parse_args()
    methods = [word for word in arguments.words if word in CONFIGS] or list(CONFIGS)
    pairs = [word for word in arguments.words if word not in CONFIGS]
    found: dict[str, Any] = {}
    for name in methods:
        options = ["OUTPUT_DIR", str(arguments.folder / name), "NPLP.REPORT", "False", *pairs]
        cfg = load_config(argparse.Namespace(config_file=CONFIGS[name], opts=options))
        found[name] = {"config": CONFIGS[name], "options": pairs, "seed": cfg.SEED, **train(cfg)}
        sys.stdout.write(f"{name} {json.dumps(found[name])}\n")
        sys.stdout.flush()
    what = "trained with true identities in place of clusters, in percent"
    keep_figures(arguments.out, {"what": what}, {"methods": found})


if __name__ == "__main__":
    main()
