"""Estimate pseudo-labels of the features in a file, and write them into another file."""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nplp_commands.parsing import OneLineParser, as_typed, run_tool

if TYPE_CHECKING:
    import numpy as np
    import torch

    from nplp.clustering import PseudoLabels
    from nplp.clustering.neighbourhood import Neighbourhood

__all__ = ["build_parser", "command_line", "main"]

_NAME = "python -m nplp.clustering"

_EPILOG = """\
files:
  .npy             one array; features stay in the file, which may be larger than memory
  .npz             the only array, or FILE.npz:KEY
  .pt, .pth        a tensor, or the only tensor of a dict, or FILE.pt:KEY
  Files that hold Python objects are refused: loading them could run code.

what is written:
  labels           [N] int64, the clusters from 0 after correction, -1 for outliers
  startup_labels   [N] int64, the same before correction
  epsilon_e, epsilon_c, self_assessment, noisy_clusters, dissolved_clusters, pairs, averaged_pairs,
  literal_epsilon, giant_clusters, alpha
  alpha_trials     [T, 4] with --alpha auto: guess of the people, epsilon, clusters, share of clustered images
  settings         the settings used, as JSON

examples:
  python -m nplp.clustering features.npy --cameras cameras.npy --out labels.npz
  about 1,500 people are expected (alpha 0.9 / 1500), and identities are known:
    python -m nplp.clustering features.npy --cameras cameras.npy --out labels.npz \\
      --alpha 0.0006 --identities identities.npy
  nobody knows how many people there are, nor how many images each of them has:
    python -m nplp.clustering features.npy --cameras cameras.npy --out labels.npz --alpha auto --k1 auto
  everything in one file, the Euclidean distance and a radius from elsewhere, without correction:
    python -m nplp.clustering data.pt:features --cameras data.pt:cameras --out labels.npz \\
      --distance euclidean --epsilon 0.6 --no-correct

Mistakes end with exit code 2 and Ctrl-C with 130, both before anything is written.
OMP_NUM_THREADS sets the number of threads.
"""


def _or_auto(kind: type[float]) -> Callable[[str], float | None]:
    """Return what makes a number of a word, and None of "auto"."""

    def read(text: str) -> float | None:
        try:
            return None if text == "auto" else kind(text)
        except ValueError as error:
            number = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"must be {number} or auto, got {text!r}") from error

    return read


_SETTINGS = (
    (
        "--alpha",
        _or_auto(float),
        "SHARE",
        "share of the pairs that epsilon averages, in (0, 1]; about 0.9 / people, or auto to choose it",
    ),
    (
        "--epsilon-pairs",
        str,
        "across|all",
        "which pairs: across cameras, or all at a distance above 0 (the rule of UDA, SSG and MMT)",
    ),
    (
        "--clusterer",
        str,
        "dbscan|hdbscan|infomap",
        "what clusters; the latter two need no radius, a Jaccard distance and --no-correct",
    ),
    ("--beta", float, "RATIO", "epsilon_c / epsilon_e, in (0, 1]"),
    ("--epsilon", float, "DISTANCE", "epsilon_e itself, 0 or more (default: from --alpha)"),
    ("--min-samples", int, "COUNT", "images within epsilon of a core image, itself included"),
    ("--noisy-fraction", float, "SHARE", "share of the clusters that is clustered again, in (0, 1]"),
    ("--noisy", str, "recluster|drop|keep", "what becomes of a noisy cluster"),
    ("--dissolved", str, "drop|keep", "what becomes of a noisy cluster without sub-clusters"),
    ("--reclustered-outliers", str, "drop|rejoin", "what becomes of an image that falls out of one"),
    (
        "--distance",
        str,
        "jaccard|camera_jaccard|relative_jaccard|euclidean",
        "of epsilon and of the clusters",
    ),
    ("--assessment-distance", str, "jaccard|camera_jaccard|euclidean", "of the scores (default: --distance)"),
    (
        "--correction-distance",
        str,
        "jaccard|camera_jaccard|euclidean",
        "by which noisy clusters are clustered again (default: --distance)",
    ),
    (
        "--k1",
        _or_auto(int),
        "COUNT",
        "neighbours of the Jaccard distance, or auto to choose it, and --k2 with it",
    ),
    ("--k2", int, "COUNT", "neighbours of its local query expansion"),
    ("--k1-intra", int, "COUNT", "neighbours of camera_jaccard in the own camera"),
    ("--k1-inter", int, "COUNT", "the same in the other cameras"),
    ("--k2-intra", int, "COUNT", "images of the own camera in its local query expansion"),
    ("--k2-inter", int, "COUNT", "the same of the other cameras"),
    ("--giant-share", float, "SHARE", "lower epsilon where a cluster holds so much (default: never)"),
    (
        "--equal-scores",
        str,
        "order|skip",
        "take the first clusters as noisy, or none, where scores are equal",
    ),
)

_QUALITY = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "cross_camera_recall": "cross-camera recall",
    "nmi": "NMI",
    "ari": "ARI",
    "mixed_noise": "mixed noise",
    "fragmented_noise": "fragmented noise",
}


_OF_CONSTRAINTS = ("changes", "unconstrained_labels")
"""What a result holds only where there are constraints, for which there is no option here."""

_DEFAULTS: dict[str, Any] = {
    "alpha": 0.0012,
    "beta": 0.5,
    "min_samples": 4,
    "noisy_fraction": 0.1,
    "correct": True,
    "distance": "jaccard",
    "assessment_distance": None,
    "correction_distance": None,
    "k1": 20,
    "k2": 6,
    "k1_intra": 5,
    "k1_inter": 20,
    "k2_intra": 2,
    "k2_inter": 4,
    "camera_centering": False,
    "camera_scaling": False,
    "noisy": "recluster",
    "dissolved": "drop",
    "reclustered_outliers": "drop",
    "epsilon": None,
    "giant_share": None,
    "equal_scores": "order",
    "epsilon_pairs": "across",
    "clusterer": "dbscan",
}
"""Those of `estimate_pseudo_labels`, which the help shows without importing it."""


def build_parser() -> OneLineParser:
    """Return the parser, with an option for each setting of `estimate_pseudo_labels`."""
    parser = OneLineParser(prog=_NAME, description=__doc__, epilog=_EPILOG, allow_abbrev=False)
    add = parser.add_argument
    add(
        "features",
        metavar="FEATURES",
        help="[N, D] real numbers, a row an image; not normalised here",
    )
    add("--cameras", metavar="FILE", help="[N] integers, the camera of each image (default: unknown)")
    add(
        "--identities",
        metavar="FILE",
        help="[N] integers, the people, -1 where unknown, only to say how good the labels are",
    )
    add("--out", metavar="FILE.npz", required=True, help="what to write, in a folder that exists")
    add("--force", action="store_true", help="replace that file if it exists")
    add("--quiet", action="store_true", help="neither progress nor summary")
    group = parser.add_argument_group("settings")
    for option, kind, metavar, text in _SETTINGS:
        note = "" if "(default" in text else " (default: %(default)s)"
        group.add_argument(option, type=kind, metavar=metavar, help=text + note)
    group.add_argument("--no-correct", dest="correct", action="store_false", help="no correcting stage")
    group.add_argument("--camera-centering", action="store_true", help="subtract each camera's mean first")
    group.add_argument(
        "--camera-scaling",
        action="store_true",
        help="divide by each camera's deviations too, and normalise; needs --camera-centering",
    )
    parser.set_defaults(**_DEFAULTS)
    return parser


def _run(args: argparse.Namespace) -> None:
    """Read, estimate, write and summarise.

    Raises:
        ValueError: for a mistake in the arguments or in a file, or where memory does not suffice.
    """
    import numpy as np

    from nplp.clustering import estimate_pseudo_labels
    from nplp.errors import UserError
    from nplp.files import write_npz_atomically
    from nplp.memory import is_out_of_memory
    from nplp_commands.array_files import check_output, read_features, read_ids

    if args.k1 is None and args.distance != "jaccard":
        raise UserError(f"--k1 auto is for --distance jaccard, got {args.distance!r}: give --k1 a number")
    out = Path(args.out)
    inputs = [address for address in (args.features, args.cameras, args.identities) if address is not None]
    check_output(out, inputs, args.force)
    features = read_features(args.features)
    count = len(features)
    cameras = None if args.cameras is None else read_ids("--cameras", args.cameras, count)
    people = None if args.identities is None else read_ids("--identities", args.identities, count)
    settings = {name: getattr(args, name) for name in _DEFAULTS}
    chosen: list[tuple[str, str]] = []
    start = time.perf_counter()
    try:
        if args.k1 is None:
            found = _chosen_neighbours(args, features, cameras)
            settings.update(k1=found.k1, k2=found.k2)
            chosen.append(("neighbours", str(found)))
        result = estimate_pseudo_labels(features, cameras, **settings, progress=not args.quiet)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"{count:,} images of {features.shape[1]:,} dimensions do not fit into memory: lower --alpha or "
            "OMP_NUM_THREADS, or use a machine with more"
        ) from error
    seconds = time.perf_counter() - start
    fields = {name: np.asarray(value) for name, value in vars(result).items() if name not in _OF_CONSTRAINTS}
    arrays = {**fields, "settings": np.asarray(json.dumps(settings))}
    write_npz_atomically(out, arrays, "make room, or name another file by --out")
    if not args.quiet:
        images = f"{count:,} of {features.shape[1]:,} dimensions"
        seen = "unknown" if cameras is None else f"{len(np.unique(cameras)):,}"
        rows = [("images", images), ("cameras", seen), *chosen, *_summary(result, seconds)]
        rows += [] if people is None else _quality_rows(result.labels, people, cameras)
        width = max(len(name) for name, _ in rows)
        sys.stdout.write("".join(f"{name:<{width}}  {value}\n" for name, value in rows))


def _chosen_neighbours(
    args: argparse.Namespace, features: np.ndarray | torch.Tensor, cameras: np.ndarray | None
) -> Neighbourhood:
    """Return the choice of k1 and k2."""
    from nplp.clustering import choose_neighbours

    return choose_neighbours(
        features,
        cameras,
        min_samples=args.min_samples,
        camera_centering=args.camera_centering,
        camera_scaling=args.camera_scaling,
        progress=not args.quiet,
    )


def _summary(result: PseudoLabels, seconds: float) -> list[tuple[str, str]]:
    """Return the rows of the summary that describe the result and its cost."""
    import torch

    from nplp.clustering.giants import LOWERED

    averaged = f", the mean of {result.averaged_pairs:,} of {result.pairs:,} pairs" if result.pairs else ""
    share = result.num_outliers / len(result.labels)
    lowered = f", lowered from {result.literal_epsilon:.6g}" if result.giant_clusters == LOWERED else ""
    rows = [
        ("epsilon_e", f"{result.epsilon_e:.6g}{lowered}{averaged}"),
        ("epsilon_c", f"{result.epsilon_c:.6g}"),
        ("clusters", f"{result.num_clusters:,}, {result.num_startup_clusters:,} before correction"),
        ("outliers", f"{result.num_outliers:,} ({share:.1%} of the images)"),
        ("largest cluster", f"{result.largest_cluster_share:.1%} of the clustered images"),
    ]
    if len(result.noisy_clusters):
        lowest = ", ".join(f"{score:.3f}" for score in result.self_assessment[result.noisy_clusters[:3]])
        noisy = f"{len(result.noisy_clusters):,}, of which {len(result.dissolved_clusters):,} dissolved"
        rows += [("noisy clusters", noisy), ("lowest scores", lowest)]
    rows += [("threads", f"{torch.get_num_threads()}"), ("time", f"{seconds:.1f} s")]
    peak = _peak_memory()
    return rows if peak is None else [*rows, ("peak memory", f"{peak / 1e9:.2f} GB, mapped files included")]


def _peak_memory() -> int | None:
    """Return the most bytes that the process has had in memory, None where the system does not say."""
    # Not getrusage: a child starts with the peak of the process that started it.
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    peaks = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(peaks[0]) * 1024 if peaks else None


def _quality_rows(
    labels: np.ndarray, people: np.ndarray, cameras: np.ndarray | None
) -> list[tuple[str, str]]:
    """Return the rows that compare labels [N] with identities [N], negative where unknown, in percent."""
    import numpy as np

    from nplp.clustering import label_quality

    known = people >= 0
    if len(np.unique(people[known])) < 2:
        return [("identities", "fewer than two are known: precision and recall are undefined")]
    quality = label_quality(labels[known], people[known], None if cameras is None else cameras[known])
    values = quality.as_dict()
    rows = [(name, f"{values[key]:.1%}") for key, name in _QUALITY.items() if values[key] is not None]
    if known.all():
        return rows
    return [
        ("identities", f"known for {known.sum():,} of {len(people):,} images; the rows below are over these"),
        *rows,
    ]


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Write a warning as one line, clear of the progress bar."""
    from tqdm import tqdm

    from nplp.errors import printable

    tqdm.write(f"{as_typed(_NAME)}: warning: {printable(' '.join(str(message).split()))}", file=sys.stderr)


def _run_with_warnings(args: argparse.Namespace) -> None:
    """Run with warnings of one line."""
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        _run(args)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command.

    Args:
        argv: the arguments; None takes those of the process.

    Raises:
        SystemExit: with code 2 after a mistake, 130 after Ctrl-C.
    """
    run_tool(build_parser(), _run_with_warnings, argv)


def command_line() -> None:
    """Run the command with the arguments of the process."""
    main()


if __name__ == "__main__":
    command_line()
