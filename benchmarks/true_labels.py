"""Train each method with the true identities in place of its clusters, on the built-in synthetic domains.

A method that is implemented right ends far above the direct transfer then: what is left is what its loss and
its memory do. All run as in the comparison of the methods, from plaza to station.

Usage: python benchmarks/true_labels.py [--out docs/results/true_labels.json] [--folder logs/true_labels]
       [--page docs/methods.md] [METHOD ...] [KEY VALUE ...]
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
from tabulate import tabulate

from nplp.circumstances import circumstances, package_versions
from nplp.clustering import PseudoLabels
from nplp.data.datasets import index_cameras, index_identities, load_training_items
from nplp.engine.pipeline import run
from nplp.engine.setup import load_config, prepare_output
from nplp.errors import UserError
from nplp.methods import METHODS, DistanceSettings, Labelling, Method
from nplp.methods.ssg import SelfSimilarityGrouping
from nplp_experiments.definitions import PAP2
from nplp_experiments.methods import METHODS as METHODS_OF_OTHERS
from page_part import write_part

CONFIG = "configs/methods/compare/methods_p2s.yml"
ABLATIONS, OVERLAYS = "configs/NPLP/ablations", "configs/methods/overlays"
HEADS = {"nplp": PAP2, **{name: head for name, (head, _) in METHODS_OF_OTHERS.items()}}
"""The overlays of the head that a method's source model is trained with."""
NAMES = tuple(HEADS)
SHOWN = ("Rank-1", "mAP")
BEGIN = "<!-- benchmarks/true_labels.py -->"


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
            if isinstance(method, SelfSimilarityGrouping):
                method._found[:] = labels  # each part has labels of its own
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


def page_table(figures: dict[str, Any]) -> str:
    """Return Rank-1 and mAP of each method before and after, as Markdown."""
    lines = [
        [
            f"`{name}`",
            *(
                " / ".join(f"{found[stage][key]:.1f}" for key in SHOWN)
                for stage in ("direct_transfer", "final")
            ),
        ]
        for name, found in figures["methods"].items()
    ]
    headers = ["Rank-1 / mAP", "direct transfer", "trained with true labels"]
    seeds = ", ".join(sorted({str(found["seed"]) for found in figures["methods"].values()}))
    where = f"{figures['processor']}, {figures['threads']} thread(s), {figures['date']}"
    return f"{tabulate(lines, headers, 'github', disable_numparse=True)}\n\nSeed {seeds}; {where}."


def main() -> None:
    """Train, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results/true_labels.json"))
    parser.add_argument("--page", type=Path, help="put the table into this page, beside writing --out")
    parser.add_argument("--folder", type=Path, default=Path("logs/true_labels"))
    parser.add_argument("words", nargs="*", help="methods, then KEY VALUE pairs for all of them")
    arguments = parser.parse_args()
    methods = [word for word in arguments.words if word in NAMES] or NAMES
    pairs = [word for word in arguments.words if word not in NAMES]
    found: dict[str, Any] = {}
    for name in methods:
        options = ["OUTPUT_DIR", str(arguments.folder / name), "NPLP.REPORT", "False", *pairs]
        overlays = [f"{ABLATIONS}/{each}.yml" for each in HEADS[name]]
        overlays.append(f"{OVERLAYS}/{name}.yml")
        cfg = load_config(argparse.Namespace(config_file=CONFIG, overlay=overlays, opts=options))
        found[name] = {"config": CONFIG, "options": pairs, "seed": cfg.SEED, **train(cfg)}
        sys.stdout.write(f"{name} {json.dumps(found[name])}\n")
        sys.stdout.flush()
    what = "trained with true identities in place of clusters, in percent"
    keep_figures(arguments.out, {"what": what}, {"methods": found})
    if arguments.page:
        figures = json.loads(arguments.out.read_text(encoding="utf-8"))
        write_part(arguments.page, BEGIN, page_table(figures))


if __name__ == "__main__":
    main()
