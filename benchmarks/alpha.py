"""How good are the labels with alpha chosen from the features, beside alpha of the true number of people?

One clustering of each target, the startup stage with camera centring, by the features of a model that was not
adapted, with and without batch norms by camera. Targets: synthetic networks, whole and some of their people,
and PKU-Reid where its images and weights are given. "quarter" and "four times" show what a wrong guess costs.

Usage: python benchmarks/alpha.py --run logs/quickstart [--weights datasets/weights/osnet_x0_25_msmt17.pth]
       [--many 750] [--out docs/results/alpha.json]
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastreid.config import CfgNode
from tabulate import tabulate
from torch.nn import functional as F

from nplp.clustering import estimate_pseudo_labels, label_quality
from nplp.clustering.people import alpha_of
from nplp.data.datasets import index_cameras, index_identities, load_training_items
from nplp.data.extraction import extract_features
from nplp.engine.checkpoint import load_weights
from nplp.engine.norm_statistics import refresh_statistics
from nplp.engine.pipeline import LEFT_BEHIND, NECK
from nplp.engine.setup import load_config
from nplp.engine.trainer import ReidTrainer
from true_labels import keep_figures

PARTS = (24, 48, 96)
"""People of a part of a target; it is drawn by seed 0."""
SYNTHETIC = "configs/NPLP/quickstart.yml"
PKU = {"PKU-Reid": "configs/NPLP/real/pku_all.yml", "half of PKU-Reid": "configs/NPLP/real/pku.yml"}
FACTORS = {"chosen": None, "true": 1.0, "quarter": 0.25, "four times": 4.0}
SHOWN = ("clusters", "f1", "precision", "recall", "cross_camera_recall")


def features_of(cfg: CfgNode, weights: str) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Return L2-normalised features [N, D] of the target, cameras and identities [N]."""
    items = load_training_items(cfg)
    model: Any = ReidTrainer.build_model(cfg)
    load_weights(model, weights, optional=LEFT_BEHIND, initial=NECK)
    if cfg.MODEL.NORM_CAMERAS:
        refresh_statistics(cfg, model, items)
    features = F.normalize(extract_features(cfg, model, items, "Features"))
    identities = index_identities(items)
    assert identities is not None
    return features, index_cameras(items), identities


def compare(features: torch.Tensor, cameras: np.ndarray, identities: np.ndarray) -> dict[str, Any]:
    """Return how good the labels are with each alpha."""
    people = len(np.unique(identities))
    found: dict[str, Any] = {"people": people, "images": len(features)}
    for name, factor in FACTORS.items():
        alpha = None if factor is None else min(1.0, factor * alpha_of(people))
        estimate = estimate_pseudo_labels(
            features, cameras, alpha=alpha, correct=False, camera_centering=True
        )
        quality = label_quality(estimate.labels, identities, cameras).as_dict()
        found[name] = {"alpha": round(estimate.alpha, 6), **{key: quality[key] for key in SHOWN}}
    return found


def targets(arguments: argparse.Namespace) -> Iterator[tuple[str, CfgNode, str]]:
    """Yield the name, the configuration and the weights of each target."""
    common = ["DATASETS.VERIFY", "False", "MODEL.BACKBONE.PRETRAIN", "False"]
    for norms in ("False", "True"):
        by_camera = ", norms by camera" if norms == "True" else ""
        options = [*common, "MODEL.NORM_CAMERAS", norms]
        source = str(arguments.run / "source" / "model_final.pth")
        for name in ("SynthStation", "SynthCampus", "SynthHarbour"):
            yield f"{name}{by_camera}", configured(SYNTHETIC, [*options, "DATASETS.NAMES", name]), source
        if arguments.many:
            size = ["DATASETS.SYNTHETIC.TRAIN_IDENTITIES", str(arguments.many)]
            station = [*options, "DATASETS.NAMES", "SynthStation", *size]
            yield (
                f"SynthStation of {arguments.many} people{by_camera}",
                configured(SYNTHETIC, station),
                source,
            )
        if arguments.weights:
            for name, config in PKU.items():
                yield f"{name}{by_camera}", configured(config, options), str(arguments.weights)


def configured(path: str, options: list[str]) -> CfgNode:
    """Return the configuration of a file with options laid over it."""
    return load_config(argparse.Namespace(config_file=path, opts=options))


def main() -> None:
    """Cluster each target with each alpha, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("logs/quickstart"))
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--many", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("docs/results/alpha.json"))
    arguments = parser.parse_args()
    found: dict[str, Any] = {}
    for name, cfg, weights in targets(arguments):
        features, cameras, identities = features_of(cfg, weights)
        everyone = np.unique(identities)
        for part in (*(size for size in PARTS if size <= len(everyone) // 2), len(everyone)):
            people = np.random.default_rng(0).choice(everyone, part, replace=False)
            kept = np.isin(identities, people)
            found[f"{name}, {part} people"] = row = compare(features[kept], cameras[kept], identities[kept])
            sys.stderr.write(f"{name}, {part} people: {row['chosen']['f1']:.3f}, {row['true']['f1']:.3f}\n")
    rows = [
        [name, *(f"{100 * row[form]['f1']:.0f}" for form in FACTORS), row["chosen"]["clusters"]]
        for name, row in found.items()
    ]
    sys.stdout.write(tabulate(rows, headers=["F1 of pairs", *FACTORS, "clusters chosen"]) + "\n")
    what = {"what": "labels with alpha chosen from the features, and with multiples of 0.9 / true people"}
    keep_figures(arguments.out, what, {"targets": json.loads(json.dumps(found))})


if __name__ == "__main__":
    main()
