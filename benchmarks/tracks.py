#!/usr/bin/env python
"""Measure what tracks do for pseudo-labels, with the features of a source model.

    python benchmarks/tracks.py --run logs/quickstart --write

A domain of the synthetic renderer is drawn whose visits are long enough for the longest tracks, and its
images are embedded by the run's source model. They are clustered once without tracks, and then with tracks
of several lengths, with a share of wrong ones, with times and without, in three ways: "constrain" keeps the
clusters to what is known (NPLP.TRACKS constrain), "average" gives each image its track's mean feature
(NPLP.TRACKS average), and "tracks alone" clusters the mean features of the tracks as if they were images,
with 2 for min_samples and fewer neighbours the longer the tracks are. All of it is done at three values of
alpha: that chosen from the features, and 0.9 over the people and over four times as many.

Nothing is trained: the figures are of the first iteration's labels, of the training images.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastreid.config import CfgNode
from tabulate import tabulate
from torch.nn import functional as F

from nplp.circumstances import circumstances, commit
from nplp.clustering import (
    Constraints,
    average_by_component,
    build_constraints,
    estimate_pseudo_labels,
    label_quality,
)
from nplp.data.extraction import extract_features
from nplp.engine.pipeline import load_trained
from nplp.engine.setup import load_config
from nplp.errors import UserError
from nplp_commands.parsing import OneLineParser, run_tool
from nplp_synthetic import (
    DomainSpec,
    DomainStyle,
    default_cache_root,
    ensure_domain,
    market_name,
    track_images,
)
from page_part import write_part

FIGURES = Path(__file__).parents[1] / "docs" / "results" / "tracks.json"
NONE, CONSTRAIN, AVERAGE, ALONE = "none", "constrain", "average", "tracks alone"
COLUMNS = ("precision", "recall", "f1", "cross_camera_recall", "clusters", "outliers")
CHOSEN = "chosen"
K1, K2 = 20, 6
PAGE = Path(__file__).parents[1] / "docs" / "tracks.md"
BEGIN = "<!-- benchmarks/tracks.py -->"


def domain(cfg: CfgNode, args: argparse.Namespace) -> DomainSpec:
    """Return the domain to draw: as hard as the run's, with training images alone."""
    style = {key.lower(): value for key, value in cfg.DATASETS.SYNTHETIC.STYLE.items()}
    return DomainSpec(
        name=args.domain,
        train_identities=args.people,
        test_identities=1,
        images_per_identity=args.images,
        cameras=args.cameras,
        distractors=0,
        junk=0,
        seed=args.seed,
        style=DomainStyle(**style),
    )


def embed(cfg: CfgNode, spec: DomainSpec) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return L2-normalised features [N, D], identities [N] and cameras [N] of the training images."""
    folder = ensure_domain(spec, default_cache_root(), progress=True)
    records = [image.record for image in track_images(spec, 1) if image.record.split == "train"]
    items = [(str(folder / market_name(record)), record.identity, record.camera) for record in records]
    features = extract_features(cfg, load_trained(cfg)[0], items, "Features")
    identities, cameras = (
        np.array([getattr(record, name) for record in records]) for name in ("identity", "camera")
    )
    return F.normalize(features, dim=1).numpy(), identities, cameras


def labels_of(
    use: str,
    features: np.ndarray,
    cameras: np.ndarray,
    known: Constraints | None,
    alpha: float | None,
    length: int,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return labels [N] and what constraints changed.

    Args:
        use: of tracks.
        features: [N, D].
        cameras: [N].
        known: from the tracks; None without.
        alpha: of eq. 4; None chooses it.
        length: images of a track.
    """
    options: dict[str, Any] = {"alpha": alpha, "correct": False, "camera_centering": True}
    if use in (AVERAGE, ALONE):
        assert known is not None
        means = average_by_component(torch.from_numpy(features), known)
        features = F.normalize(means, dim=1).numpy()
    if use == ALONE:
        assert known is not None
        first = np.unique(known.components, return_index=True)[1]
        k1 = max(4, 4 * K1 // length)
        options |= {"min_samples": 2, "k1": min(K1, k1), "k2": max(2, min(K2, k1 // 3))}
        labels = estimate_pseudo_labels(features[first], cameras[first], **options).labels
        return labels[known.components], {}
    if use == CONSTRAIN:
        options["constraints"] = known
    found = estimate_pseudo_labels(features, cameras, **options)
    return found.labels, vars(found.changes) if found.changes is not None else {}


def measured(args: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what was clustered, and a row of figures for each way of using tracks."""
    config, weights = args.run / "config.yaml", args.run / "source" / "model_final.pth"
    if not (config.is_file() and weights.is_file()):
        raise UserError(f"--run {str(args.run)!r} has no source/model_final.pth: name a run that pre-trained")
    options = ["MODEL.WEIGHTS", str(weights), "MODEL.DEVICE", args.device]
    cfg = load_config(argparse.Namespace(config_file=str(config), opts=options))
    spec = domain(cfg, args)
    features, identities, cameras = embed(cfg, spec)
    rows: list[dict[str, Any]] = []
    alphas = {CHOSEN: None, "0.9 / (4 people)": 0.225 / args.people, "0.9 / people": 0.9 / args.people}

    def add(use: str, known: Constraints | None = None, **setting: Any) -> None:
        for name, alpha in alphas.items():
            labels, changes = labels_of(use, features, cameras, known, alpha, setting.get("length", 1))
            quality = label_quality(labels, identities, cameras).as_dict()
            figures = {column: quality[column] for column in COLUMNS}
            changed = {"changes": changes} if changes else {}
            rows.append({"alpha": name, "use": use, **setting, **figures, **changed})

    add(NONE)
    for length in args.lengths:
        for wrong in args.wrong:
            images = [i for i in track_images(spec, length, wrong) if i.record.split == "train"]
            tracks, times = (np.array([getattr(i, name) for i in images]) for name in ("track", "time"))
            given = {"tracks": tracks, "camera_ids": cameras}
            setting = {"length": length, "wrong": wrong}
            untimed = build_constraints(len(tracks), **given)
            timed = build_constraints(len(tracks), times=times, **given)
            counts = {"tracks": len(untimed.sizes), "overlaps": len(timed.cannot)}
            add(AVERAGE, untimed, **setting, times=False, **counts)
            add(ALONE, untimed, **setting, times=False, **counts)
            add(CONSTRAIN, untimed, **setting, times=False, **counts)
            add(CONSTRAIN, timed, **setting, times=True, **counts)
    what = {
        **{name: getattr(args, name) for name in ("domain", "people", "images", "cameras", "seed")},
        "count": len(features),
    }
    return what, rows


def table(rows: list[dict[str, Any]]) -> str:
    """Return F1 in percent in Markdown: a row for a use of tracks, a column for tracks of a kind."""
    kinds = sorted({(row["wrong"], row["length"]) for row in rows if "length" in row})
    cells: dict[tuple[str, str], dict[Any, str]] = {}
    for row in rows:
        name = row["use"] + (", with times" if row.get("times") else "")
        value = f"{100 * row['f1']:.1f}"
        here = kinds if row["use"] == NONE else [(row["wrong"], row["length"])]
        cells.setdefault((row["alpha"], name), {}).update(dict.fromkeys(here, value))
    shown = [[*names, *(values[kind] for kind in kinds)] for names, values in sorted(cells.items())]
    headers = [f"{length}{f', {100 * wrong:.0f}% wrong' if wrong else ''}" for wrong, length in kinds]
    return tabulate(shown, ["alpha", "tracks", *headers], "github", disable_numparse=True)


def write(figures: dict[str, Any], shown: str) -> None:
    """Write the figures beside the page, and the table into it."""
    FIGURES.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    write_part(PAGE, BEGIN, f"\n{shown}\n")


def build_parser() -> OneLineParser:
    """Return the parser."""
    parser = OneLineParser(prog="tracks.py", description=__doc__)
    add = parser.add_argument
    add("--run", type=Path, required=True, metavar="DIR", help="a run with a source model, logs/quickstart")
    add("--domain", default="station", help="of the renderer (default: station)")
    add("--people", type=int, default=48, help="in the training set (default: 48)")
    add("--images", type=int, default=64, help="of each of them, over all cameras (default: 64)")
    add("--cameras", type=int, default=3, help="default: 3")
    add("--lengths", type=int, nargs="+", default=[4, 8, 16], help="of tracks (default: 4 8 16)")
    add("--wrong", type=float, nargs="+", default=[0.0, 0.05], help="shares of tracks (default: 0 0.05)")
    add("--seed", type=int, default=0, help="of the domain (default: 0)")
    add("--device", default="cpu", help="of the model (default: cpu)")
    add("--write", action="store_true", help="write docs/results/tracks.json and docs/tracks.md")
    return parser


def main(args: argparse.Namespace) -> None:
    """Measure, print the table, and write the figures where that is asked for."""
    what, rows = measured(args)
    shown = table(rows)
    sys.stdout.write(f"{shown}\n")
    if args.write:
        write({**what, **circumstances(), "commit": commit(), "rows": rows}, shown)


if __name__ == "__main__":
    run_tool(build_parser(), main)
