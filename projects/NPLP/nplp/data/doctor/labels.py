"""The columns of an image table as numbers.

Shapes: N images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nplp.data.image_table import ImageTable

__all__ = ["SPLITS", "Labels"]

SPLITS = ("train", "query", "gallery")


@dataclass(frozen=True)
class Labels:
    """What is known of N images, as numbers; -1 where it is not known.

    Attributes:
        splits: [N] int64, places in :data:`SPLITS`.
        cameras: [N] int64, places in ``camera_names``.
        identities: [N] int64, places in ``identity_names``.
        tracks: [N] int64, each of one camera.
        camera_names: sorted.
        identity_names: sorted.
    """

    splits: np.ndarray
    cameras: np.ndarray
    identities: np.ndarray
    tracks: np.ndarray
    camera_names: list[str]
    identity_names: list[str]

    @classmethod
    def of(cls, table: ImageTable) -> "Labels":
        """Number the columns of a table. Without splits all images are for training."""
        count = len(table)
        splits = np.zeros(count, np.int64)
        if table.splits is not None:
            splits = np.array([SPLITS.index(split) for split in table.splits], np.int64)
        cameras, camera_names = _numbered(table.cameras, count)
        identities, identity_names = _numbered(table.identities, count)
        tracks, _ = _numbered(table.tracks, count)
        of_one_camera = tracks * (len(camera_names) + 1) + cameras + 1
        return cls(
            splits,
            cameras,
            identities,
            np.where(tracks < 0, -1, of_one_camera),
            camera_names,
            identity_names,
        )

    @property
    def sides(self) -> np.ndarray:
        """Return [N] int64: 0 in the training set, 1 in query and gallery."""
        return (self.splits > 0).astype(np.int64)

    @property
    def columns(self) -> np.ndarray:
        """Return [N, 3] int64: side, identity and camera."""
        return np.column_stack([self.sides, self.identities, self.cameras])

    def chosen(self, split: str) -> np.ndarray:
        """Return [N] bool, which images are of a split."""
        return self.splits == SPLITS.index(split)


def _numbered(names: Sequence[str | None] | None, count: int) -> tuple[np.ndarray, list[str]]:
    """Return the place of each name among the sorted names, -1 for ``None``, and the names."""
    if names is None:
        return np.full(count, -1, np.int64), []
    known = sorted({name for name in names if name is not None})
    places = {name: place for place, name in enumerate(known)}
    return np.array([-1 if name is None else places[name] for name in names], np.int64), known
