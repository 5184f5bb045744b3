"""Images and what is known of each, one row an image: what a folder, a table or a tracker's output becomes.

Shapes: N images.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

__all__ = ["ImageTable"]


@dataclass(frozen=True)
class ImageTable:
    """Images of people, in the order of their paths. Every column but ``paths`` may be unknown, ``None``.

    Attributes:
        paths: [N] of the image files, as they can be opened.
        cameras: [N] names.
        identities: [N] names; ``None`` in the place of one who is not known.
        splits: [N], each "train", "query" or "gallery".
        tracks: [N] names, unique within a camera; ``None`` in the place of an image of no track.
        times: [N] float64 seconds from any origin; NaN where not known.
        left_out: paths of files that are not among the images, by the reason.
        source: where the images come from, for messages.
    """

    paths: Sequence[str]
    cameras: Sequence[str] | None = None
    identities: Sequence[str | None] | None = None
    splits: Sequence[str] | None = None
    tracks: Sequence[str | None] | None = None
    times: np.ndarray | None = None
    left_out: dict[str, list[str]] = field(default_factory=dict)
    source: str = ""

    def __len__(self) -> int:
        """Return N."""
        return len(self.paths)
