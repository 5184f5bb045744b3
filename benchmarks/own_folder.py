"""What `nplp adapt` gains on a folder of crops without identities, which were kept back to measure with.

A synthetic network is drawn, and its training images are copied to a folder for each camera, under names
that tell nothing. This folder is adapted to by defaults alone. The identities that were kept back give the
figures: on the test people, whom the adaptation has not seen, and of the groups into which the folder falls.

Usage: python benchmarks/own_folder.py --weights logs/quickstart/source/model_final.pth
       [--domain station] [--identities 96] [--images-per-identity 16] [--cameras 6] [--seeds 0 1]
       [--folder logs/own_folder] [--out docs/results/own_folder.json] [KEY VALUE ...]

What is finished in --folder is not run again, and a run that was stopped goes on.
"""

import argparse
import json
import random
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastreid.config import CfgNode
from tabulate import tabulate

from nplp.adapt.request import Request
from nplp.adapt.run import BUNDLE, Products, adapt, resume
from nplp.circumstances import circumstances, package_versions
from nplp.clustering import label_quality
from nplp.config import default_config
from nplp.data.datasets import Item, ReidData, index_cameras, index_identities, load_dataset
from nplp.evaluation import bootstrap_intervals, evaluate_features, queries_without_match
from nplp.files import read_json, write_atomically
from nplp.search import Embedder, group, load_model
from nplp.weights.zoo import SUMS

DOMAINS = {"station": "SynthStation", "campus": "SynthCampus", "harbour": "SynthHarbour"}
LABELS = ("clusters", "precision", "recall", "cross_camera_recall", "f1")


def draw(arguments: argparse.Namespace) -> ReidData:
    """Return the network with all its identities; it is rendered where the cache does not hold it."""
    cfg: CfgNode = default_config()
    sizes = {
        "TRAIN_IDENTITIES": arguments.identities,
        "TEST_IDENTITIES": arguments.identities,
        "IMAGES_PER_IDENTITY": arguments.images_per_identity,
        "CAMERAS": arguments.cameras,
        "IMAGE_SIZE": list(arguments.size),
        "ROOT": arguments.cache,
    }
    for key, value in sizes.items():
        cfg.merge_from_list([f"DATASETS.SYNTHETIC.{key}", value])
    return load_dataset(cfg, DOMAINS[arguments.domain])


def throw_identities_away(items: Sequence[Item], folder: Path) -> dict[str, Item]:
    """Copy images to a folder for each camera, numbered in a random order; return what each copy was.

    The folder appears when all of it is there.
    """
    order = list(items)
    random.Random(0).shuffle(order)
    copies = {f"{item[2]}/{number:06d}{Path(item[0]).suffix}": item for number, item in enumerate(order)}
    if not folder.exists():
        part = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        for name, item in copies.items():
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(item[0], part / name)
        part.replace(folder)
    return copies


def adapted(arguments: argparse.Namespace, crops: Path, seed: int) -> Path:
    """Adapt to the folder, unless that was done before, and return the bundle."""
    output = arguments.folder / f"{arguments.domain}_seed{seed}"
    products = Products(onnx=False, index=False)
    if (output / BUNDLE / SUMS).is_file():
        return output / BUNDLE
    if (output / "last_checkpoint").is_file():
        resume(str(output), [], products)
    else:
        options = ("SEED", str(seed), "NPLP.REPORT", "False", *arguments.pairs)
        adapt(Request(str(crops), str(arguments.weights), str(output), options=options), products)
    return output / BUNDLE


def figures_on_test_people(model: Embedder, data: ReidData) -> dict[str, Any]:
    """Return Rank-1 and mAP in percent, with the interval of mAP, of people whom the adaptation has not seen.

    The interval is the 95% one of the bootstrap over people.
    """
    features, ids, cameras = [], [], []
    for items in (data.query, data.gallery):
        names = [data.camera_name(item[2]) for item in items]
        features.append(torch.from_numpy(model.embed([item[0] for item in items], names)))
        ids.append(np.array([item[1] for item in items]))
        cameras.append(np.array([item[2] for item in items]))
    ranking = evaluate_features(*features, *ids, *cameras, metric="cosine")
    with_match = np.delete(ids[0], queries_without_match(*ids, *cameras))
    precision = 100 * ranking.all_ap
    interval = bootstrap_intervals(precision[:, None], with_match)
    return {
        "Rank-1": round(100 * float(ranking.cmc[0]), 2),
        "mAP": round(float(precision.mean()), 2),
        "mAP interval": None if interval is None else [round(value, 2) for value in interval[0].tolist()],
    }


def figures_of_groups(model: Embedder, crops: Path, copies: dict[str, Item]) -> dict[str, Any]:
    """Return how the groups of `nplp group` agree with the people of the folder."""
    items = list(copies.values())
    cameras = [str(item[2]) for item in items]
    features = model.embed([str(crops / name) for name in copies], cameras)
    people = index_identities(items)
    assert people is not None
    found = label_quality(group(features, cameras), people, index_cameras(items))
    return {name: round(float(getattr(found, name)), 3) for name in LABELS}


def measure(model: Embedder, data: ReidData, crops: Path, copies: dict[str, Item]) -> dict[str, Any]:
    """Return all figures of a model."""
    return {**figures_on_test_people(model, data), "groups": figures_of_groups(model, crops, copies)}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--domain", choices=DOMAINS, default="station")
    parser.add_argument("--identities", type=int, default=96)
    parser.add_argument("--images-per-identity", type=int, default=16)
    parser.add_argument("--cameras", type=int, default=6)
    parser.add_argument("--size", type=int, nargs=2, default=(128, 64), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--cache", default="", help="of the drawn networks (default: NPLP_CACHE)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--folder", type=Path, default=Path("logs/own_folder"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/own_folder.json"))
    parser.add_argument("pairs", nargs="*", help="KEY VALUE pairs")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Adapt with each seed, print and keep the figures."""
    arguments = build_parser().parse_args(argv)
    data = draw(arguments)
    crops = arguments.folder / f"{arguments.domain}_crops"
    arguments.folder.mkdir(parents=True, exist_ok=True)
    copies = throw_identities_away(data.train, crops)
    rows: dict[str, Any] = {"direct transfer": measure(load_model(arguments.weights), data, crops, copies)}
    for seed in arguments.seeds:
        bundle = adapted(arguments, crops, seed)
        rows[f"adapted, seed {seed}"] = measure(load_model(bundle), data, crops, copies)
    table = [[name, row["Rank-1"], row["mAP"], *row["groups"].values()] for name, row in rows.items()]
    sys.stdout.write(f"{tabulate(table, headers=['', 'Rank-1', 'mAP', *LABELS])}\n")
    kept = read_json(arguments.out, "remove it") if arguments.out.is_file() else {}
    kept.setdefault("what", "nplp adapt by defaults, measured with identities that it does not see")
    kept[arguments.domain] = {
        "weights": "/".join(arguments.weights.parts[-2:]),
        "images": len(copies),
        "people": len({item[1] for item in data.train}),
        "cameras": len({item[2] for item in data.train}),
        "options": arguments.pairs,
        "figures": rows,
        **circumstances(),
        "versions": package_versions(("torch", "numpy", "fastreid")),
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(arguments.out, json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
