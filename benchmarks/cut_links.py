"""Train on true identities of which a share of the people is cut in two: by camera, or at random.

It asks what a lost link between two cameras costs, beside the same number of links that are lost anywhere. In
every form each cluster holds one person alone.

Usage: python benchmarks/cut_links.py [--out docs/results/cut_links.json] [--folder logs/cut_links]
       [--share 0.5] [--config configs/NPLP/real/pku.yml] [KEY VALUE ...]
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from fastreid.config import CfgNode

from nplp.engine.pipeline import run
from nplp.engine.setup import load_config, prepare_output
from true_labels import keep_figures, true_labels

FORMS = ("whole", "cut at random", "cut by camera")


def cut(identities: np.ndarray, cameras: np.ndarray, share: float, form: str, seed: int) -> np.ndarray:
    """Return identities [N] int64, 0..c-1, in which a share of the people are two clusters each.

    Args:
        identities: [N] int64, 0..P-1.
        cameras: [N] int64.
        share: of the people that are cut, drawn by the seed: the same people in both forms.
        form: of :data:`FORMS`. By camera, the last camera of a person is one cluster and the others together
            are another; at random, each image falls on either side.
        seed: of the draw.
    """
    if form == "whole":
        return identities
    generator = np.random.default_rng(seed)
    people = int(identities.max()) + 1
    chosen = np.isin(identities, generator.permutation(people)[: round(share * people)])
    if form == "cut by camera":
        last = np.zeros(people, dtype=np.int64)
        np.maximum.at(last, identities, cameras)
        aside = cameras == last[identities]
    else:
        aside = generator.random(len(identities)) < 0.5
    return np.unique(identities + people * (chosen & aside), return_inverse=True)[1].astype(np.int64)


def train(cfg: CfgNode, form: str, share: float) -> list[dict[str, float]]:
    """Train on identities in a form; return the labels' recall and the metrics after each iteration."""
    prepare_output(cfg)
    with true_labels(cfg.NPLP.METHOD, lambda people, cameras: cut(people, cameras, share, form, cfg.SEED)):
        run(cfg, cfg, resume=False, overwrite=True)
    lines = (Path(cfg.OUTPUT_DIR) / "pseudo_labels.jsonl").read_text(encoding="utf-8").splitlines()
    kept = ("precision", "recall", "cross_camera_recall", "Rank-1", "mAP")
    return [{key: round(json.loads(line)[key], 4) for key in kept} for line in lines]


def main() -> None:
    """Train in each form, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results/cut_links.json"))
    parser.add_argument("--folder", type=Path, default=Path("logs/cut_links"))
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--config", default="configs/NPLP/real/pku.yml")
    parser.add_argument("pairs", nargs="*", help="KEY VALUE pairs")
    arguments = parser.parse_args()
    found: dict[str, Any] = {}
    for form in FORMS:
        folder = str(arguments.folder / form.replace(" ", "_"))
        options = ["OUTPUT_DIR", folder, "NPLP.REPORT", "False", *arguments.pairs]
        cfg = load_config(argparse.Namespace(config_file=arguments.config, opts=options))
        found[form] = train(cfg, form, arguments.share)
        sys.stdout.write(f"{form} {json.dumps(found[form])}\n")
        sys.stdout.flush()
    what = {
        "what": f"trained on true identities, {arguments.share:g} of the people cut in two; by iteration",
        "config": arguments.config,
        "options": arguments.pairs,
    }
    keep_figures(arguments.out, what, {"forms": found})


if __name__ == "__main__":
    main()
