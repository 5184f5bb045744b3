"""The line that ``pseudo_labels.jsonl`` has of an iteration: what it holds, and what the screen shows of it.

Shapes: N target images.
"""

from typing import Any

import numpy as np
from tabulate import tabulate

from nplp.clustering import PseudoLabels, camera_entropies, cross_camera_share, label_quality
from nplp.engine.tracks import describe_changes

__all__ = ["in_words", "numbers_of", "quality_of", "signs_of"]

QUALITY_COLUMNS = {
    "precision": "precision",
    "recall": "recall",
    "nmi": "NMI",
    "ari": "ARI",
    "mixed_noise": "mixed",
    "fragmented_noise": "fragmented",
}


def quality_of(labels: np.ndarray, identities: np.ndarray | None, cameras: np.ndarray) -> dict[str, Any]:
    """Return how good labels are over the images with known identities; empty without any.

    Args:
        labels: [N] int64, -1 for outliers; empty where there are none.
        identities: [N] int64, -1 where unknown; None where all are.
        cameras: [N] int64.
    """
    if identities is None or not len(labels):
        return {}
    known = identities >= 0
    people = len(np.unique(identities[known]))
    quality = label_quality(labels[known], identities[known], cameras[known])
    figures: dict[str, Any] = {name: float(getattr(quality, name)) for name in QUALITY_COLUMNS}
    figures["cross_camera_recall"] = quality.cross_camera_recall
    if known.all():
        return {**figures, "identities": people}
    # How many people there are is not known then.
    return {**figures, "known_identities": people, "images_with_identity": int(known.sum())}


def numbers_of(estimate: PseudoLabels, labels: np.ndarray) -> dict[str, Any]:
    """Return what there is to say of an estimate and the labels ``[N]`` that came of it."""
    sizes = np.bincount(labels[labels >= 0], minlength=1)
    return {
        "epsilon_e": float(estimate.epsilon_e),
        "epsilon_c": float(estimate.epsilon_c),
        "clusters": int(labels.max(initial=-1)) + 1,
        "outliers": int((labels < 0).sum()),
        "noisy_clusters": len(estimate.noisy_clusters),
        "dissolved_clusters": len(estimate.dissolved_clusters),
        "largest_cluster_share": float(sizes.max() / max(1, sizes.sum())),
        **_chosen_alpha(estimate),
    }


def _chosen_alpha(estimate: PseudoLabels) -> dict[str, Any]:
    """Return alpha and what was tried, where it was chosen from the features; else nothing."""
    if not len(estimate.alpha_trials):
        return {}
    names = ("guess", "epsilon", "clusters", "clustered")
    trials = [dict(zip(names, trial, strict=True)) for trial in estimate.alpha_trials.tolist()]
    return {"alpha": float(estimate.alpha), "alpha_trials": trials}


def signs_of(
    estimate: PseudoLabels, labels: np.ndarray, cameras: np.ndarray, agreement: float | None
) -> dict[str, float]:
    """Return what labels [N] tell of their own worth, without identities.

    ``images`` and ``cameras``: how many there are; ``camera_entropy``: mean over the clusters, in bits;
    ``one_camera_clusters``: share of the clusters; ``cross_camera_pairs``: share of the pairs within
    clusters; ``label_agreement``: with the labels before, where there are any; ``self_assessment``: mean
    score of eq. 8 over the startup clusters, where they are assessed.
    """
    entropies = camera_entropies(labels, cameras)
    signs = {
        "images": len(labels),
        "cameras": len(np.unique(cameras)),
        "camera_entropy": float(entropies.mean()) if len(entropies) else 0.0,
        "one_camera_clusters": float((entropies == 0).mean()) if len(entropies) else 0.0,
        "cross_camera_pairs": cross_camera_share(labels, cameras),
    }
    if agreement is not None:
        signs["label_agreement"] = agreement
    if len(estimate.self_assessment):
        signs["self_assessment"] = float(estimate.self_assessment.mean())
    return signs


def in_words(line: dict[str, Any], iterations: int, images: int) -> str:
    """Return an iteration's table for the screen."""
    clusters = f"{line['clusters']}" + (f" ({line['identities']} people)" if "identities" in line else "")
    columns = {
        "epsilon": f"{line['epsilon_e']:.4f}",
        "clusters": clusters,
        "outliers": f"{line['outliers']} ({100 * line['outliers'] / images:.0f}%)",
        "noisy": line["noisy_clusters"],
    }
    for name, title in QUALITY_COLUMNS.items():
        if name in line:
            columns[title] = f"{100 * line[name]:.1f}"
    table = tabulate([columns.values()], headers=list(columns), tablefmt="simple", disable_numparse=True)
    if "alpha" in line:
        tried = ", ".join(f"{trial['guess']:.0f}: {trial['clusters']:.0f}" for trial in line["alpha_trials"])
        chosen = f"alpha {line['alpha']:.4g} chosen"
        table += f"\n  {chosen}; 0.9 / alpha, and clusters, of what was tried: {tried}"
    if "tracks" in line:
        table += f"\n  {describe_changes(line['tracks'])}"
    head = f"Iteration {line['iteration']} of {iterations}, {line['stage']} stage"
    if "labels_of_iteration" in line:
        head += f", with the labels of iteration {line['labels_of_iteration']}"
    if "images_with_identity" in line:
        known = f"{line['images_with_identity']:,} of {images:,} images with known identities"
        table += f"\n  precision to fragmented: over {known}"
    return f"{head}\n{table}"
