"""Pictures that are there more than once: with the same pixels, or nearly so.

Copies are told apart by whom they concern: two parts of the data (train and test), two identities, two
cameras, or none of these, as consecutive frames of one camera. Shapes: N images.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import faiss
import numpy as np
from tqdm import tqdm

from nplp.data.doctor.labels import Labels
from nplp.data.doctor.look import Looks

__all__ = ["KINDS", "NEAR", "Copies", "equal_pictures", "near_pairs", "near_pictures"]

KINDS = ("train-and-test", "two-identities", "two-cameras", "ordinary")
NEAR = 24
"""Bits of 256 in which hashes of nearly the same picture differ at most. On real crops, copies that were
compressed to JPEG quality 30, halved in size or made brighter by a fifth differed by 20 bits or fewer; of
691,456 pairs of different people none were within 48, and of 5.3 million synthetic ones none within 40."""
PAIRS = 2_000_000
"""Pairs that a block of the search may return at most, about 200 MB with what is made of them."""
EXAMPLES = 3


@dataclass
class Copies:
    """Copies of each kind.

    Attributes:
        images: [N] bool by kind, the images that have a copy of that kind.
        found: pairs, or groups, by kind.
        examples: numbers of two images by kind, the first three.
        total: pairs, or groups, each once.
    """

    images: dict[str, np.ndarray]
    found: dict[str, int]
    examples: dict[str, list[tuple[int, int]]]
    total: int = 0

    @property
    def any_kind(self) -> np.ndarray:
        """Return [N] bool, the images that have a copy of any kind."""
        return np.logical_or.reduce(list(self.images.values()))

    @classmethod
    def none(cls, count: int) -> "Copies":
        """Return no copies among N images."""
        return cls(
            {kind: np.zeros(count, bool) for kind in KINDS}, dict.fromkeys(KINDS, 0), {k: [] for k in KINDS}
        )

    def add(self, kind: str, first: np.ndarray, second: np.ndarray, found: int) -> None:
        """Count pairs of images, given by two vectors of numbers of one length."""
        self.images[kind][first] = True
        self.images[kind][second] = True
        self.found[kind] += found
        missing = EXAMPLES - len(self.examples[kind])
        self.examples[kind] += list(zip(first[:missing].tolist(), second[:missing].tolist(), strict=True))


def equal_pictures(looks: Looks, labels: Labels) -> Copies:
    """Return the images whose decoded pixels are equal, in groups; O(N log N) time, O(N) memory."""
    copies = Copies.none(len(labels.sides))
    numbers = np.flatnonzero(looks.readable)
    if not len(numbers):
        return copies
    _, group = np.unique(looks.sums[numbers], axis=0, return_inverse=True)
    order = np.argsort(group.ravel(), kind="stable")
    numbers, group = numbers[order], group.ravel()[order]
    copies.total = int((np.bincount(group) > 1).sum())
    plain = np.ones(len(group), bool)
    for kind, column in _columns(labels).items():
        known = np.flatnonzero(column[numbers] >= 0)
        first, members = _with_first(numbers[known], group[known])
        differ = column[first] != column[members]
        concerned = np.unique(group[known][differ])
        copies.add(kind, first[differ], members[differ], len(concerned))
        plain &= ~np.isin(group, concerned)
    first, members = _with_first(numbers[plain], group[plain])
    again = first != members
    copies.add("ordinary", first[again], members[again], len(np.unique(first[again])))
    return copies


def _with_first(numbers: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each image of sorted groups the first image of its group, and the image itself."""
    return numbers[np.searchsorted(group, group)], numbers


def near_pictures(looks: Looks, labels: Labels, distance: int = NEAR, progress: bool = False) -> Copies:
    """Return the pairs of images of different pixels whose hashes differ in at most ``distance`` bits.

    Blank images take no part: all of them are alike. Time is O(N^2) in comparisons of 32 bytes, some seconds
    at 40,000 images; memory is O(N) and 200 MB.
    """
    copies = Copies.none(len(labels.sides))
    chosen = np.flatnonzero(looks.readable & ~looks.blank)
    if not len(chosen):
        return copies
    # Of equal pictures with equal labels one stands for all.
    rows = np.column_stack([looks.sums[chosen].view(np.int64), labels.columns[chosen]])
    chosen = chosen[np.sort(np.unique(rows, axis=0, return_index=True)[1])]
    for one, other in near_pairs(looks.hashes[chosen], distance, progress):
        first, second = chosen[one], chosen[other]
        differ = (looks.sums[first] != looks.sums[second]).any(axis=1)
        first, second = first[differ], second[differ]
        copies.total += len(first)
        for kind, members in _kinds(first, second, labels).items():
            copies.add(kind, first[members], second[members], int(members.sum()))
    return copies


def near_pairs(
    hashes: np.ndarray, distance: int, progress: bool = False
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the pairs of hashes that differ in at most ``distance`` bits, in blocks.

    Args:
        hashes: [M, B] uint8.
        distance: in bits, at least 0.
        progress: whether there may be a bar.

    Yields:
        The first and the second numbers of pairs, int64, each pair once, the first below the second.
    """
    hashes = np.ascontiguousarray(hashes)
    index = faiss.IndexBinaryFlat(8 * hashes.shape[1])
    block = int(np.clip(PAIRS // max(len(hashes), 1), 1, 4096))
    for start in tqdm(
        range(0, len(hashes), block),
        desc="Comparing images",
        unit="block",
        leave=False,
        disable=None if progress else True,
    ):
        rows = hashes[start : start + block]
        index.add(rows)
        limits, _, found = index.range_search(rows, distance + 1)
        counts = limits[1:].astype(np.int64) - limits[:-1].astype(np.int64)
        second = np.repeat(np.arange(start, start + len(rows)), counts)
        # A row finds those before it in its own block and in earlier ones, and itself.
        before = found < second
        order = np.lexsort((found[before], second[before]))
        yield found[before][order], second[before][order]


def _columns(labels: Labels) -> dict[str, np.ndarray]:
    return dict(zip(KINDS, (labels.sides, labels.identities, labels.cameras), strict=False))


def _kinds(first: np.ndarray, second: np.ndarray, labels: Labels) -> dict[str, np.ndarray]:
    """Return which pairs are of each kind, bool of the pairs' length; a pair may be of several."""
    kinds = {}
    for kind, column in _columns(labels).items():
        one, other = column[first], column[second]
        kinds[kind] = (one != other) & (one >= 0) & (other >= 0)
    return {**kinds, "ordinary": ~np.logical_or.reduce(list(kinds.values()))}
