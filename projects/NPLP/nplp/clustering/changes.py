"""What constraints changed of labels."""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["ConstraintChanges"]


@dataclass(frozen=True)
class ConstraintChanges:
    """How many of what constraints changed.

    Attributes:
        moved_images: images that left their cluster, with their component or with their cluster.
        joined_images: outliers that came into the cluster of their component.
        joined_clusters: clusters that joined the one to which most of their images had moved.
        new_clusters: clusters made of a component that had been outliers throughout.
        split_clusters: clusters that held two components which must stay apart.
        left_out_images: images of what remained of a cluster and was too small.
    """

    moved_images: int = 0
    joined_images: int = 0
    joined_clusters: int = 0
    new_clusters: int = 0
    split_clusters: int = 0
    left_out_images: int = 0

    def __add__(self, other: ConstraintChanges) -> ConstraintChanges:
        """Return the changes of one and the other."""
        sums = {field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)}
        return ConstraintChanges(**sums)
