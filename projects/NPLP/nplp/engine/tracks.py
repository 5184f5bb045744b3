"""What tracks tell of the target's images: read, handed to the pseudo-label stage, and reported.

Shapes: N target images.
"""

import inspect
import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from fastreid.config import CfgNode

from nplp.clustering import Constraints, PseudoLabels, build_constraints
from nplp.config.choices import OWN_IMAGES, TRACKS_CONSTRAIN, TRACKS_UNUSED
from nplp.data.datasets import Item, index_cameras
from nplp.data.own_dataset import TracksAndTimes, tracks_of_items
from nplp.data.synthetic_tracks import synthetic_tracks
from nplp.errors import UserError
from nplp.methods import Method

__all__ = ["check_method", "describe_changes", "report_changes", "target_constraints"]

logger = logging.getLogger(__name__)


def target_constraints(cfg: CfgNode, items: list[Item]) -> Constraints | None:
    """Return what the tracks and times of the target's images tell; ``None`` where NPLP.TRACKS is "none".

    Args:
        cfg: the configuration; ``NPLP.TRACKS`` and ``DATASETS`` are read.
        items: the N training images of the target.

    Raises:
        UserError: if no image is in a track.
    """
    use = cfg.NPLP.TRACKS
    if use == TRACKS_UNUSED:
        return None
    found = _tracks_and_times(cfg, items)
    if found is None or (found.tracks < 0).all():
        raise UserError(
            f"NPLP.TRACKS is {use!r}, but none of the {len(items)} images of {tuple(cfg.DATASETS.NAMES)} "
            f"is in a track: give {OWN_IMAGES} a table with a column track, set "
            "DATASETS.SYNTHETIC_TRACKS.LENGTH for a built-in domain, or set NPLP.TRACKS none"
        )
    constraints = build_constraints(
        len(items), tracks=found.tracks, camera_ids=index_cameras(items), times=found.times
    )
    timed = int((~np.isnan(found.times)).sum())
    overlaps = f"{len(constraints.cannot):,} pairs of tracks of one camera overlap in time"
    logger.info(
        "Tracks: %s of %s images in %s; %s",
        f"{int((found.tracks >= 0).sum()):,}",
        f"{len(items):,}",
        f"{int(found.tracks.max()) + 1:,}",
        overlaps if timed else "no times of theirs in a known camera, so none is known to overlap",
    )
    return constraints


def _tracks_and_times(cfg: CfgNode, items: list[Item]) -> TracksAndTimes | None:
    """Return the tracks that a table or a built-in domain has, if either has any."""
    if OWN_IMAGES in cfg.DATASETS.NAMES:
        return tracks_of_items(cfg, items)
    return synthetic_tracks(cfg, items) if cfg.DATASETS.SYNTHETIC_TRACKS.LENGTH else None


def check_method(cfg: CfgNode, method: Method) -> None:
    """Check that a method takes the constraints that NPLP.TRACKS makes.

    Raises:
        UserError: if it does not.
    """
    takes = "constraints" in inspect.signature(method.label).parameters
    if cfg.NPLP.TRACKS == TRACKS_CONSTRAIN and not takes:
        raise UserError(
            f"NPLP.TRACKS is {TRACKS_CONSTRAIN!r}, but the method {cfg.NPLP.METHOD!r} takes no constraints: "
            f"give its function label the argument constraints, or set NPLP.TRACKS {TRACKS_UNUSED}"
        )


def report_changes(estimate: PseudoLabels, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return what constraints changed of an iteration's labels, for its line; empty without constraints.

    Args:
        estimate: of the iteration.
        before: how good the labels were before, where identities are known.
    """
    if estimate.changes is None:
        return {}
    labels = estimate.unconstrained_labels
    clusters, outliers = int(labels.max(initial=-1)) + 1, int((labels < 0).sum())
    return {
        "tracks": {
            **asdict(estimate.changes),
            "before": {"clusters": clusters, "outliers": outliers, **before},
        }
    }


def describe_changes(changes: Mapping[str, Any]) -> str:
    """Return in a line what :func:`report_changes` found."""
    counts = (
        ("moved_images", "images moved"),
        ("joined_images", "outliers joined"),
        ("joined_clusters", "clusters joined"),
        ("new_clusters", "new"),
        ("split_clusters", "split"),
        ("left_out_images", "images left out"),
    )
    done = ", ".join(f"{changes[name]} {text}" for name, text in counts)
    before = changes["before"]
    shown = f"{before['clusters']} clusters, {before['outliers']} outliers"
    if "precision" in before:
        shown += f", precision {100 * before['precision']:.1f}, recall {100 * before['recall']:.1f}"
    return f"tracks: {done}; before: {shown}"
