"""The sample's features in two dimensions (Figs. 1 and 4)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial import ConvexHull, QhullError
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

__all__ = ["SIDE", "Scatter", "outline", "project"]

SIDE = 1000.0
"""Width and height of the coordinates."""

MARGIN = 25.0
COMPONENTS = 50
PERPLEXITY = 20.0
STEPS = 500
"""Of t-SNE: 1,000, scikit-learn's default, take twice the time, and the divergence falls by 2 to 5% more."""
SPREAD, EXAGGERATION = 5.0, 4.0
"""Of an earlier picture that t-SNE begins from: the standard deviation of its first axis, and the factor of
attraction in the first 250 steps. From 1e-4 and 12, scikit-learn's, points move twice as far."""


@dataclass(frozen=True)
class Scatter:
    """One picture.

    Attributes:
        title: the stage.
        points: [S, 2] float64 in 0..SIDE.
        iteration: whose clusters are outlined.
        outlines: closed lines [P, 2] around the images of each cluster of three or more.
    """

    title: str
    iteration: int
    points: np.ndarray
    outlines: list[np.ndarray]


def project(features: np.ndarray, before: np.ndarray | None = None) -> np.ndarray:
    """Return t-SNE coordinates [S, 2] in 0..SIDE of features [S, D], after their 50 principal components.

    Each axis fills the picture, as neither has a unit. The same features give the same picture. Fewer than
    five images are put on a line.

    Args:
        features: of the sample, any float type.
        before: [S, 2] coordinates of the same images at an earlier stage, which t-SNE begins from, so that
            they stay near; ``None``: from the first two principal components.
    """
    values = features.astype(np.float64)
    values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    if len(values) < 5:
        points = np.stack([np.arange(len(values)), np.zeros(len(values))], axis=1).astype(np.float64)
    else:
        components = min(COMPONENTS, *values.shape)
        reduced = PCA(components, random_state=0).fit_transform(values)
        perplexity = min(PERPLEXITY, (len(values) - 1) / 3)
        settings: dict[str, Any] = {"perplexity": perplexity, "max_iter": STEPS, "random_state": 0}
        if before is None:
            settings["init"] = "pca"
        else:
            settings |= {"init": _start(before), "early_exaggeration": EXAGGERATION}
        points = TSNE(**settings).fit_transform(reduced)
    points = points - points.min(axis=0)
    return MARGIN + points / np.maximum(points.max(axis=0), 1e-12) * (SIDE - 2 * MARGIN)


def _start(before: np.ndarray) -> np.ndarray:
    """Return a picture's points around zero, as far apart as t-SNE is to begin with them."""
    centred = before - before.mean(axis=0)
    return (centred / max(centred[:, 0].std(), 1e-12) * SPREAD).astype(np.float32)


def outline(points: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """Return the convex hulls of clusters of three images or more.

    Args:
        points: [S, 2].
        labels: [S] integers, -1 for outliers, which have none.
    """
    hulls = []
    for cluster in np.unique(labels[labels >= 0]):
        members = points[labels == cluster]
        if len(members) < 3:
            continue
        try:
            hulls.append(members[ConvexHull(members).vertices])
        except QhullError:  # all on a line
            continue
    return hulls
