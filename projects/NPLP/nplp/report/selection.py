"""Chooses what is worth looking at: clusters, examples of noise, and queries that changed.

Shapes: N images, c clusters, Q queries. An unknown identity is -1; such an image is right nowhere and wrong
nowhere.
"""

from dataclasses import dataclass

import numpy as np

__all__ = [
    "Group",
    "by_score",
    "changed_queries",
    "correction_of",
    "fragmented_people",
    "mixed_clusters",
    "purity",
]


@dataclass(frozen=True)
class Group:
    """Images that are shown together.

    Attributes:
        title: what they have in common.
        members: their numbers.
        total: how many there are, of which `members` may be the first.
    """

    title: str
    members: np.ndarray
    total: int


def purity(labels: np.ndarray, identities: np.ndarray) -> np.ndarray:
    """Return [c] the share of each cluster's images that are of its commonest identity.

    Args:
        labels: [N] integers, 0..c-1, -1 for outliers.
        identities: [N] integers; a cluster of unknown ones alone has the purity NaN.
    """
    clusters = int(labels.max(initial=-1)) + 1
    shares = np.full(clusters, np.nan)
    for cluster in range(clusters):
        counts = np.unique(identities[(labels == cluster) & (identities >= 0)], return_counts=True)[1]
        if len(counts):
            shares[cluster] = counts.max() / counts.sum()
    return shares


def by_score(scores: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the clusters with the lowest and those with the highest scores, each from the extreme on.

    Args:
        scores: [c] self-assessment scores.
        count: how many of each; fewer where both would share some.
    """
    order = np.argsort(scores, kind="stable")
    count = min(count, len(order) // 2)
    return order[:count], order[len(order) - count :][::-1]


def correction_of(cluster: int, startup: np.ndarray, labels: np.ndarray, most: int) -> list[Group]:
    """Return what became of a startup cluster: its parts after correction, largest first, and what it lost.

    Args:
        cluster: its number.
        startup: [N] labels before correction.
        labels: [N] labels after it.
        most: images of each group.
    """
    members = np.flatnonzero(startup == cluster)
    parts, sizes = np.unique(labels[members], return_counts=True)
    groups = []
    for part in parts[np.lexsort((parts, -sizes, parts < 0))]:
        inside = members[labels[members] == part]
        title = "left out" if part < 0 else f"cluster {part}"
        groups.append(Group(title, inside[:most], len(inside)))
    return groups


def mixed_clusters(labels: np.ndarray, identities: np.ndarray, count: int, most: int) -> list[Group]:
    """Return the clusters with the most images of others than their commonest identity (mixed noise)."""
    clusters = int(labels.max(initial=-1)) + 1
    labels = np.where(identities >= 0, labels, -1)
    sizes = np.bincount(labels[labels >= 0], minlength=clusters)
    strangers = np.zeros(clusters)
    pure = purity(labels, identities)
    strangers[: len(pure)] = np.nan_to_num(1 - pure) * sizes[: len(pure)]
    chosen = [k for k in np.argsort(-strangers, kind="stable")[:count] if strangers[k] > 0.5]
    groups = []
    for cluster in chosen:
        members = np.flatnonzero(labels == cluster)
        people, inverse, sizes = np.unique(identities[members], return_inverse=True, return_counts=True)
        members = members[np.lexsort((inverse, -sizes[inverse]))]
        groups.append(Group(f"cluster {cluster}: {len(people)} people", members[:most], len(members)))
    return groups


def fragmented_people(
    labels: np.ndarray, identities: np.ndarray, count: int, most: int
) -> list[tuple[str, list[Group]]]:
    """Return the people whose images are torn into the most clusters (fragmented noise), with the parts."""
    clustered = (labels >= 0) & (identities >= 0)
    people = np.unique(identities[clustered])
    parts = np.array([len(np.unique(labels[clustered & (identities == person)])) for person in people])
    fragmented = []
    for place in np.argsort(-parts, kind="stable")[:count]:
        if parts[place] < 2:
            break
        person = people[place]
        groups = []
        for cluster in np.unique(labels[clustered & (identities == person)]):
            members = np.flatnonzero((labels == cluster) & (identities == person))
            groups.append(Group(f"cluster {cluster}", members[:most], len(members)))
        groups.sort(key=lambda group: -group.total)
        fragmented.append((f"identity {person}: {len(groups)} clusters", groups))
    return fragmented


def changed_queries(before: np.ndarray, after: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the queries whose average precision rose the most and those for which it fell the most.

    Args:
        before: [Q] average precision, NaN where a query has no match.
        after: [Q] likewise.
        count: how many of each.
    """
    change = np.nan_to_num(after - before)
    order = np.argsort(change, kind="stable")
    fell = [query for query in order[:count] if change[query] < 0]
    rose = [query for query in order[::-1][:count] if change[query] > 0]
    return np.array(rose, dtype=np.int64), np.array(fell, dtype=np.int64)
