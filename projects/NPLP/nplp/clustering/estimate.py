"""The pseudo-label stage as one function (section III-C; Algorithm 1, lines 4-11)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

import numpy as np
import torch

from nplp.clustering.assessment import all_equal, assess
from nplp.clustering.camera_reciprocal import camera_reciprocal_encoding
from nplp.clustering.constrain import constrain_labels
from nplp.clustering.constraints import Constraints
from nplp.clustering.correction import correct_labels, without_clusters
from nplp.clustering.dbscan import cluster
from nplp.clustering.epsilon import smallest_share_epsilon, startup_epsilon
from nplp.clustering.giants import cluster_without_giants
from nplp.clustering.inputs import as_features, as_integer_ids, check_epsilon
from nplp.clustering.jaccard import jaccard_distances
from nplp.clustering.people import choose_alpha
from nplp.clustering.reciprocal import reciprocal_encoding, relative_encoding
from nplp.clustering.rejoining import rejoin_outliers
from nplp.clustering.results import PseudoLabels
from nplp.clustering.settings import ALL_PAIRS, CAMERA_JACCARD, RECLUSTERED, RELATIVE_JACCARD, Settings
from nplp.clustering.sweep import Distances, EuclideanDistances, FeatureRows, Progress, SparseDistances
from nplp.clustering.without_epsilon import DBSCAN, cluster_without_epsilon

__all__ = ["estimate_pseudo_labels"]


def estimate_pseudo_labels(
    features: torch.Tensor | np.ndarray,
    camera_ids: torch.Tensor | np.ndarray | Sequence[int] | None,
    *,
    alpha: float | None = 0.0012,
    beta: float = 0.5,
    min_samples: int = 4,
    noisy_fraction: float = 0.1,
    correct: bool = True,
    distance: str = "jaccard",
    assessment_distance: str | None = None,
    correction_distance: str | None = None,
    k1: int = 20,
    k2: int = 6,
    k1_intra: int = 5,
    k1_inter: int = 20,
    k2_intra: int = 2,
    k2_inter: int = 4,
    camera_centering: bool = False,
    camera_scaling: bool = False,
    noisy: str = "recluster",
    dissolved: str = "drop",
    reclustered_outliers: str = "drop",
    epsilon: float | None = None,
    giant_share: float | None = None,
    equal_scores: str = "order",
    epsilon_pairs: str = "across",
    clusterer: str = "dbscan",
    constraints: Constraints | None = None,
    also_at: Sequence[float] = (),
    progress: bool = False,
) -> PseudoLabels:
    """Estimate pseudo-labels by the startup stage (eq. 4) and the correcting stage (eqs. 6-9).

    Args:
        features: [N, D] float32 or float64, tensor on any device or array; they are not normalised. A tensor
            on a CUDA device is multiplied there; the processor gets its values once, to settle single pairs.
        camera_ids: [N] integers; None where unknown, and eq. 4 then warns and averages over all pairs.
        alpha: share of the cross-camera pairs that eq. 4 averages, in (0, 1]; None, an addition to the paper,
            chooses it from the distances by `choose_alpha`.
        beta: epsilon_c / epsilon_e (eq. 9), in (0, 1].
        min_samples: neighbours within epsilon that make a core sample of DBSCAN, itself included.
        noisy_fraction: K / c, in (0, 1]; rounded, and at least one of two clusters or more is noisy.
        correct: run the correcting stage.
        distance: "jaccard" (k-reciprocal), "camera_jaccard" (the same with neighbours from the own camera and
            from the others separately; see `camera_reciprocal_encoding`), "relative_jaccard" (the same in any
            unit of the features; see `relative_encoding`) or "euclidean", for eqs. 4 and 9 and DBSCAN.
        assessment_distance: the same for eqs. 6-8; None for that of the clustering.
        correction_distance: the same for eq. 9, an addition to the paper: noisy clusters are clustered again
            by it, at beta times the radius that eq. 4 finds for it; None for that of the clustering.
        k1: neighbours of the Jaccard distance; more than N count as N.
        k2: neighbours of its local query expansion; more than k1 count as k1.
        k1_intra: neighbours of the camera-aware Jaccard distance in the own camera, next to the image itself.
        k1_inter: its neighbours in the other cameras; one more than this, as in its authors' code.
        k2_intra: images of the own camera in its local query expansion, the image itself among them.
        k2_inter: images of the other cameras in its local query expansion.
        camera_centering: subtract each camera's mean feature before any distance; a camera of fewer than 5
            images keeps the global mean. Nothing changes where cameras are unknown.
        camera_scaling: then divide each value by its deviation in the camera, and L2-normalise the features
            again; a camera of fewer than 20 images takes the deviations over all cameras (see
            `scaled_by_camera`). Needs camera_centering.
        noisy: what becomes of a noisy cluster: "recluster", the paper's way, clusters it again at epsilon_c;
            "drop" makes outliers of its images, so that it waits for a later estimate; "keep" leaves it as
            it is, for whoever uses the scores alone.
        dissolved: whether a noisy cluster without sub-clusters is to "drop" into outliers or to "keep" whole.
        reclustered_outliers: whether what falls out of a noisy cluster that is clustered again is to "drop"
            into outliers or to "rejoin" the sub-cluster in which it has the most neighbours within epsilon_e.
        epsilon: epsilon_e from elsewhere in place of eq. 4; None computes it.
        giant_share: lower epsilon_e where a cluster holds this share of all samples or more, in (0, 1]; see
            `cluster_without_giants`. None, the paper's way, keeps such a cluster.
        equal_scores: where all scores (eq. 8) are equal and say nothing, "order" takes the first K clusters
            as noisy and "skip" none.
        epsilon_pairs: pairs that alpha is the share of: those "across" cameras, as in eq. 4, or "all" at a
            distance above 0, the rule of UDA, SSG and MMT (see `smallest_share_epsilon`).
        clusterer: "dbscan" (the paper's), or without a radius "hdbscan" or "infomap", for a Jaccard distance
            without the correcting stage; see `cluster_without_epsilon`.
        constraints: which images are one person and which are two, by `build_constraints`: the labels keep
            them, after the startup stage and again after the correcting stage (see `constrain_labels`). None,
            the paper's way, knows nothing of the kind.
        also_at: further radii at which DBSCAN is to cluster the same distances, for `also_labels`; nothing
            else depends on them.
        progress: show progress bars on the standard error where that is a terminal.

    Returns:
        Labels before and after correction, radii and scores.

    Raises:
        ValueError: if an argument is of the wrong shape, type or range; the message names it.

    Memory: never N x N. Tiles of fixed size, up to 32 bytes for each pair that eq. 4 averages, 16 bytes for
    each pair within epsilon_e, up to 256 pairs a sample, and with the Jaccard distances about 100 values a
    sample. Scaling by camera copies the features once. Constraints that split a cluster take D float64 for
    each component in it.
    """
    settings = Settings(
        alpha=alpha,
        beta=beta,
        min_samples=min_samples,
        noisy_fraction=noisy_fraction,
        correct=correct,
        distance=distance,
        assessment_distance=assessment_distance,
        correction_distance=correction_distance,
        k1=k1,
        k2=k2,
        k1_intra=k1_intra,
        k1_inter=k1_inter,
        k2_intra=k2_intra,
        k2_inter=k2_inter,
        camera_centering=camera_centering,
        camera_scaling=camera_scaling,
        noisy=noisy,
        dissolved=dissolved,
        reclustered_outliers=reclustered_outliers,
        epsilon=epsilon,
        giant_share=giant_share,
        equal_scores=equal_scores,
        epsilon_pairs=epsilon_pairs,
        clusterer=clusterer,
    )
    values = as_features(features)
    cameras = None if camera_ids is None else as_integer_ids("camera_ids", camera_ids, len(values))
    if constraints is not None and len(constraints) != len(values):
        raise ValueError(f"constraints must be of {len(values)} images, got {len(constraints)}")
    on_device = features.detach() if isinstance(features, torch.Tensor) and features.is_cuda else None
    rows = FeatureRows.prepared(values, cameras, camera_centering, camera_scaling, on_device)
    for radius in also_at:
        check_epsilon(radius)
    return _run_stages(settings, rows, cameras, Progress(progress), constraints, also_at)


def _run_stages(
    settings: Settings,
    rows: FeatureRows,
    cameras: np.ndarray | None,
    progress: Progress,
    constraints: Constraints | None = None,
    also_at: Sequence[float] = (),
) -> PseudoLabels:
    """Run both stages on checked features of N samples and camera ids [N] int64."""
    distances = _distances_by_name(settings.distance, settings, rows, cameras, progress)
    # The startup stage: epsilon_e (eq. 4) and its clusters.
    alpha, trials = settings.alpha or 0.0, np.empty((0, 4))
    if settings.epsilon is None:
        if settings.alpha is None:
            chosen = choose_alpha(distances, cameras, settings.min_samples, progress.shown)
            alpha, trials = chosen.alpha, np.array([astuple(trial) for trial in chosen.trials])
        if settings.epsilon_pairs == ALL_PAIRS:
            literal, pairs, averaged = smallest_share_epsilon(distances, alpha)
        else:
            literal, pairs, averaged = startup_epsilon(distances, cameras, alpha)
    else:
        alpha = 0.0
        literal, pairs, averaged = float(settings.epsilon), 0, 0
    epsilon, giants = literal, ""
    if settings.clusterer != DBSCAN:
        assert isinstance(distances, SparseDistances)
        startup = cluster_without_epsilon(distances, settings.clusterer, settings.min_samples)
    elif settings.giant_share is None:
        startup = cluster(distances, epsilon, settings.min_samples)
    else:
        startup, epsilon, giants = cluster_without_giants(
            distances, epsilon, settings.min_samples, settings.giant_share
        )
    others = [cluster(distances, radius, settings.min_samples) for radius in also_at]
    constrained: dict[str, Any] = {}
    if constraints is not None:
        constrained["unconstrained_labels"] = startup
        startup, constrained["changes"] = constrain_labels(startup, constraints, rows, settings.min_samples)
    epsilon_c = settings.beta * epsilon
    labels, scores = startup.copy(), np.empty(0)
    noisy = dissolved = np.empty(0, dtype=np.int64)
    if settings.correct:
        # The correcting stage: scores (eqs. 6-8), and noisy clusters clustered again at epsilon_c (eq. 9).
        measured = {settings.distance: distances}

        def by(name: str) -> Distances:
            if name not in measured:
                measured[name] = _distances_by_name(name, settings, rows, cameras, progress)
            return measured[name]

        scores, noisy = assess(by(settings.assessed_by), startup, settings.noisy_fraction)
        if settings.equal_scores == "skip" and all_equal(scores):
            noisy = noisy[:0]
        if settings.noisy == RECLUSTERED:
            keep, corrected = settings.dissolved == "keep", by(settings.corrected_by)
            if corrected is not distances:
                epsilon_c = settings.beta * startup_epsilon(corrected, cameras, alpha)[0]
            labels, dissolved = correct_labels(
                corrected, startup, noisy, epsilon_c, settings.min_samples, keep
            )
            if settings.reclustered_outliers == "rejoin":
                labels = rejoin_outliers(distances, startup, labels, epsilon)
        elif settings.noisy == "drop":
            labels = without_clusters(startup, noisy)
        if constraints is not None:
            constrained["unconstrained_labels"] = labels
            labels, changes = constrain_labels(labels, constraints, rows, settings.min_samples)
            constrained["changes"] += changes
    return PseudoLabels(
        *(labels, startup, epsilon, epsilon_c, scores, noisy, dissolved, pairs, averaged, literal, giants),
        alpha=alpha,
        alpha_trials=trials,
        also_labels=np.array(others, dtype=np.int64).reshape(len(others), len(rows)),
        **constrained,
    )


def _distances_by_name(
    name: str, settings: Settings, rows: FeatureRows, cameras: np.ndarray | None, progress: Progress
) -> Distances:
    """Return the distances among features that the settings call by one of `DISTANCES`."""
    if name == "jaccard":
        return jaccard_distances(reciprocal_encoding(rows, settings.k1, settings.k2, progress), progress)
    if name == RELATIVE_JACCARD:
        return jaccard_distances(relative_encoding(rows, settings.k1, settings.k2, progress)[0], progress)
    if name == CAMERA_JACCARD:
        sizes = (settings.k1_intra, settings.k1_inter, settings.k2_intra, settings.k2_inter)
        return jaccard_distances(camera_reciprocal_encoding(rows, cameras, *sizes, progress), progress)
    keep_sums = settings.correct and settings.assessed_by == settings.distance
    return EuclideanDistances(rows, progress, keep_sums)
