"""Groups of images that show one person each, by the pseudo-label stage."""

import logging
from collections.abc import Sequence

import numpy as np

from nplp.clustering import OUTLIER, choose_neighbours, estimate_pseudo_labels
from nplp.clustering.people import alpha_of
from nplp.errors import UserError
from nplp.search.index import checked_features, normalised

__all__ = ["camera_numbers", "group"]

logger = logging.getLogger(__name__)


def camera_numbers(cameras: Sequence[str | None] | None) -> np.ndarray | None:
    """Return a number for each camera's name [N] int64, in the order of the names; ``None`` for ``None``.

    Images of which the camera is not known are together those of one more camera.
    """
    if cameras is None:
        return None
    names = np.array(["" if camera is None else f"={camera}" for camera in cameras], dtype=object)
    return np.unique(names.astype(str), return_inverse=True)[1].astype(np.int64).reshape(-1)


def group(
    features: np.ndarray,
    cameras: Sequence[str | None] | None = None,
    *,
    people: int | None = None,
    min_samples: int = 4,
    camera_centering: bool = True,
    correct: bool = False,
    progress: bool = False,
) -> np.ndarray:
    """Return the group [N] int64 of each image, from 0; -1 for an image that is in no group.

    The startup stage of Algorithm 1 (:func:`nplp.clustering.estimate_pseudo_labels`) on L2-normalised
    features with the Jaccard distance, whose k1 is chosen (:func:`nplp.clustering.choose_neighbours`). Groups
    are numbered by their first images.

    Args:
        features: [N, D], as :meth:`nplp.search.Embedder.embed` gives them.
        cameras: the N names of the cameras, ``None`` for one that is not known.
        people: how many there are, for alpha = 0.9 / people. By default alpha is estimated
            (:func:`nplp.clustering.people.choose_alpha`), which did better than the true number on
            features that tell people badly apart.
        min_samples: images within the radius that make a group, at least 1; people with fewer images than
            this are in no group.
        camera_centering: subtract each camera's mean feature first.
        correct: run the correcting stage, which makes groups purer and leaves more images out.
        progress: whether progress bars are shown on a terminal.

    Raises:
        UserError: if the features are not of shape [N, D] or not finite, or ``people`` or ``min_samples`` is
            out of its range.
    """
    values = normalised(checked_features(features))
    if cameras is not None and len(cameras) != len(values):
        raise UserError(f"{len(values)} features need as many cameras, got {len(cameras)}")
    if people is not None and people < 1:
        raise UserError(f"people must be at least 1, got {people}")
    if min_samples < 1:
        raise UserError(f"min_samples must be at least 1, got {min_samples}")
    if len(values) < 2:
        # One image is a group where one image suffices for it.
        return np.full(len(values), 0 if min_samples == 1 else OUTLIER, dtype=np.int64)
    numbers = camera_numbers(cameras)
    if numbers is not None and (numbers == numbers[0]).all():
        numbers = None
    centred = camera_centering and numbers is not None
    # Without cameras, or with one, all pairs take the place of those across cameras.
    apart = np.arange(len(values)) if numbers is None else numbers
    neighbours = choose_neighbours(
        values, apart, min_samples=min_samples, camera_centering=centred, progress=progress
    )
    result = estimate_pseudo_labels(
        values,
        apart,
        alpha=None if people is None else alpha_of(people),
        min_samples=min_samples,
        correct=correct,
        camera_centering=centred,
        k1=neighbours.k1,
        k2=neighbours.k2,
        progress=progress,
    )
    logger.info("%s", neighbours)
    if people is None:
        logger.info("About %d people (alpha %.3g)", max(1, result.num_startup_clusters), result.alpha)
    return _by_first_image(result.labels)


def _by_first_image(labels: np.ndarray) -> np.ndarray:
    """Return labels [N] renumbered in the order in which the groups first appear."""
    inside = labels != OUTLIER
    _, first, inverse = np.unique(labels[inside], return_index=True, return_inverse=True)
    place = np.argsort(np.argsort(first, kind="stable"), kind="stable")
    renumbered = np.full(len(labels), OUTLIER, dtype=np.int64)
    renumbered[inside] = place[inverse.reshape(-1)]
    return renumbered
