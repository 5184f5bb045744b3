"""Which gallery images count for a query: the Market-1501 protocol, and the labels that it reads.

Gallery images of the query's identity from the query's own camera are removed. A query with no image of its
identity left counts in no figure.

Shapes: Q queries, G gallery images.
"""

from typing import NamedTuple

import numpy as np
import torch

__all__ = ["Labels", "NoMatchError", "check_labels", "queries_without_match", "require_match"]


class NoMatchError(ValueError):
    """No query has a gallery image of its identity from another camera."""


class Labels(NamedTuple):
    """Identities and cameras as int64 arrays ``[Q]`` and ``[G]``."""

    query_ids: np.ndarray
    gallery_ids: np.ndarray
    query_cameras: np.ndarray
    gallery_cameras: np.ndarray

    def of_queries(self, start: int, stop: int) -> "Labels":
        """Return the same gallery with the queries from ``start`` to ``stop``."""
        chosen = slice(start, stop)
        return self._replace(query_ids=self.query_ids[chosen], query_cameras=self.query_cameras[chosen])

    def of_gallery(self, chosen: np.ndarray) -> "Labels":
        """Return the same queries with the gallery images ``chosen``, ``[g]`` int64."""
        return self._replace(
            gallery_ids=self.gallery_ids[chosen], gallery_cameras=self.gallery_cameras[chosen]
        )


def check_labels(
    query_ids: np.ndarray | torch.Tensor,
    gallery_ids: np.ndarray | torch.Tensor,
    query_cameras: np.ndarray | torch.Tensor,
    gallery_cameras: np.ndarray | torch.Tensor,
) -> Labels:
    """Return labels of any integer type, on any device, as :class:`Labels`.

    Raises:
        ValueError: if the two vectors of the queries, or of the gallery, are no vectors of one length.
    """
    vectors = (query_ids, gallery_ids, query_cameras, gallery_cameras)
    labels = Labels(*(torch.as_tensor(one, dtype=torch.int64, device="cpu").numpy() for one in vectors))
    for name, (ids, cameras) in {"query": labels[::2], "gallery": labels[1::2]}.items():
        if ids.ndim != 1 or ids.shape != cameras.shape:
            raise ValueError(
                f"{name}_ids and {name}_cameras must be vectors of the same length, got shapes {ids.shape} "
                f"and {cameras.shape}"
            )
    return labels


def queries_without_match(
    query_ids: np.ndarray | torch.Tensor,
    gallery_ids: np.ndarray | torch.Tensor,
    query_cameras: np.ndarray | torch.Tensor,
    gallery_cameras: np.ndarray | torch.Tensor,
) -> np.ndarray:
    """Return the queries that count in no metric, as their identity is in no other camera of the gallery.

    Args:
        query_ids: ``[Q]`` integer identities.
        gallery_ids: ``[G]`` integer identities.
        query_cameras: ``[Q]`` integer camera ids.
        gallery_cameras: ``[G]`` integer camera ids.

    Returns:
        Their numbers, int64, ascending.

    Raises:
        ValueError: if shapes do not fit.
    """
    return _without_match(check_labels(query_ids, gallery_ids, query_cameras, gallery_cameras))


def _without_match(labels: Labels) -> np.ndarray:
    cameras_of: dict[int, set[int]] = {}
    for identity, camera in zip(labels.gallery_ids.tolist(), labels.gallery_cameras.tolist(), strict=True):
        cameras_of.setdefault(identity, set()).add(camera)
    pairs = zip(labels.query_ids.tolist(), labels.query_cameras.tolist(), strict=True)
    alone = [not cameras_of.get(identity, set()) - {camera} for identity, camera in pairs]
    return np.flatnonzero(alone)


def require_match(labels: Labels) -> None:
    """Check that some query's identity is in the gallery under another camera.

    Raises:
        NoMatchError: if not.
    """
    if len(_without_match(labels)) < len(labels.query_ids):
        return
    cameras = np.unique(np.concatenate([labels.query_cameras, labels.gallery_cameras])).tolist()
    raise NoMatchError(
        f"no query has a match: no identity of the {len(labels.query_ids)} queries is among the "
        f"{len(labels.gallery_ids)} gallery images under another camera (cameras: {cameras[:20]}); a test "
        "set needs images of the same identities from at least two cameras"
    )
