"""How good are the labels with k1 chosen from the features, beside each k1 that can be chosen?

One clustering of each target, the startup stage with camera centring and a chosen alpha, by the features of a
model that was not adapted, with batch norms by camera. The rule was chosen on the station, the campus and
PKU-Reid, the harbour is kept out of that.

Usage: python benchmarks/neighbours.py --run logs/quickstart
       [--weights datasets/weights/osnet_x0_25_msmt17.pth]
       [--out docs/results/neighbours.json] [--page docs/tracks.md]

The table goes into the page, between its marks.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastreid.config import CfgNode
from tabulate import tabulate

from alpha import PKU, SYNTHETIC, configured, features_of
from nplp.clustering import choose_neighbours, estimate_pseudo_labels, label_quality
from nplp.clustering.neighbourhood import CANDIDATES, local_expansion
from page_part import write_part
from true_labels import keep_figures

DRAWN = {
    "SynthStation": ((96, 16, 6), (48, 32, 6), (24, 64, 3)),
    "SynthCampus": ((96, 16, 6), (48, 48, 3), (24, 64, 6)),
    "SynthHarbour": ((96, 16, 6), (24, 48, 6), (24, 64, 3)),
}
"""People, images of each and cameras of each part."""
BEGIN = "<!-- benchmarks/neighbours.py -->"


def targets(arguments: argparse.Namespace) -> Iterator[tuple[str, CfgNode, str]]:
    """Yield the name, the configuration and the weights of each target."""
    common = ["DATASETS.VERIFY", "False", "MODEL.BACKBONE.PRETRAIN", "False", "MODEL.NORM_CAMERAS", "True"]
    for domain, parts in DRAWN.items():
        for people, images, cameras in parts:
            given = {"TRAIN_IDENTITIES": people, "IMAGES_PER_IDENTITY": images, "CAMERAS": cameras}
            drawn = [
                word for key, value in given.items() for word in (f"DATASETS.SYNTHETIC.{key}", str(value))
            ]
            options = [*common, "DATASETS.NAMES", domain, *drawn]
            weights = str(arguments.run / "source" / "model_final.pth")
            yield f"{domain}, {people} people of {images}", configured(SYNTHETIC, options), weights
    if arguments.weights:
        for name, config in PKU.items():
            yield name, configured(config, common), str(arguments.weights)


def compare(features: torch.Tensor, cameras: np.ndarray, identities: np.ndarray) -> dict[str, Any]:
    """Return how good the labels are with each k1, and which is chosen.

    Args:
        features: [N, D], L2-normalised.
        cameras: [N] int64.
        identities: [N] int64; the choice does not look at them.
    """
    quality = {}
    for k1 in CANDIDATES:
        estimate = estimate_pseudo_labels(
            features, cameras, alpha=None, correct=False, camera_centering=True, k1=k1, k2=local_expansion(k1)
        )
        found = label_quality(estimate.labels, identities, cameras).as_dict()
        quality[str(k1)] = {key: found[key] for key in ("clusters", "f1", "precision", "recall")}
    chosen = choose_neighbours(features, cameras)
    return {
        "images_of_a_person": round(len(features) / len(np.unique(identities)), 1),
        "cameras": len(np.unique(cameras)),
        "chosen": chosen.k1,
        "images_of_a_cluster": {str(trial.k1): trial.images for trial in chosen.trials},
        "by_k1": quality,
    }


def page_table(found: dict[str, Any]) -> str:
    """Return F1 of the labels by k1 as Markdown, that of the chosen k1 in bold."""
    rows = []
    for name, row in found.items():
        by_k1 = [f"{100 * row['by_k1'][str(k1)]['f1']:.0f}" for k1 in CANDIDATES]
        shown = [
            f"**{value}**" if k1 == row["chosen"] else value
            for k1, value in zip(CANDIDATES, by_k1, strict=True)
        ]
        rows.append([name, row["images_of_a_person"], row["cameras"], *shown])
    headers = ["target", "images of a person", "cameras", *(f"k1 {k1}" for k1 in CANDIDATES)]
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def main() -> None:
    """Cluster each target with each k1, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("logs/quickstart"))
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/results/neighbours.json"))
    parser.add_argument("--page", type=Path, default=Path("docs/tracks.md"))
    arguments = parser.parse_args()
    found: dict[str, Any] = {}
    for name, cfg, weights in targets(arguments):
        found[name] = compare(*features_of(cfg, weights))
        sys.stderr.write(f"{name}: k1 {found[name]['chosen']}\n")
    table = page_table(found)
    sys.stdout.write(f"{table}\n")
    what = {"what": "labels with each k1, and the k1 that was chosen from the features"}
    keep_figures(arguments.out, what, {"targets": found})
    write_part(arguments.page, BEGIN, table)


if __name__ == "__main__":
    main()
