"""Euclidean distances: products find the pairs and the sums, differences settle what products leave open.

Shapes: N samples, P pairs.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import NamedTuple

import numpy as np

from nplp.clustering.sweep.compiling import compiled
from nplp.clustering.sweep.euclidean_tiles import DistanceSums, PairSearch, TileReader
from nplp.clustering.sweep.features import FeatureRows, squared_distance
from nplp.clustering.sweep.pairs import EdgeVisitor, HeldPairs, NearPairs, PairSink, camera_groups
from nplp.clustering.sweep.parallel import Progress, run_blocks
from nplp.clustering.sweep.shares import Shares, current_shares, own_part, own_range
from nplp.clustering.sweep.smallest import Bracket, MeanOfSmallest, capacity
from nplp.clustering.sweep.tiles import HALF_ERROR, TileSource, half_for_all, sweep

__all__ = ["EuclideanDistances"]

_SAMPLED_PAIRS = 1 << 20
_SAMPLED_FOR_EACH = 4
_SMALL_CLUSTER = 512
_MOST_OPEN = 0.01
"""With a greater share of pairs left open by bfloat16, settling them costs what its products save."""


class _Guess(NamedTuple):
    """What a sample of pairs says about the mean of the smallest distances; a wrong guess costs a sweep.

    Attributes:
        bracket: where the last of the smallest distances lies.
        near: a distance that exceeds their mean; -1 where it is not known.
        half: whether products in bfloat16 leave few pairs open, and are fast.
    """

    bracket: Bracket
    near: float
    half: bool = False


class EuclideanDistances:
    """Euclidean distances among the rows of features [N, D].

    The sweep for eq. 4 keeps what the later steps need: the pairs within a guess of epsilon, and with
    `keep_sums` the sum of all distances of each sample. Sums take float32. Where products in bfloat16 are
    much faster, these find the pairs alone, and the sums get a sweep over the clustered samples.

    Memory: tiles of some 30 MB a thread, and what `MeanOfSmallest` and `NearPairs` keep.
    """

    def __init__(
        self, features: FeatureRows, progress: Progress | None = None, keep_sums: bool = False
    ) -> None:
        """Prepare distances; the first that is asked for pays for the norms.

        Args:
            features: N samples.
            progress: shows a bar for each sweep.
            keep_sums: whether `cluster_sums` will be asked for.
        """
        self._features = features
        self._progress = progress or Progress()
        self._keep_sums = keep_sums
        self._pairs = NearPairs(len(features), self._find)
        self._sums: DistanceSums | None = None

    def __len__(self) -> int:
        return len(self._features)

    @cached_property
    def _source(self) -> TileSource:
        return TileSource(self._features)

    @cached_property
    def _limit(self) -> float:
        """A distance that no pair exceeds."""
        return 2.01 * math.sqrt(float(self._source.norms.max())) / self._source.scale

    @property
    def sums_are_exact(self) -> bool:
        """False: sums over many samples come from products."""
        return False

    def all_within(self, epsilon: float) -> bool:
        """Return False: there is no greatest Euclidean distance."""
        del epsilon
        return False

    def mean_of_smallest(self, camera_ids: np.ndarray | None, count: int) -> float:
        """Return the mean of the `count` smallest distances; see `Distances.mean_of_smallest`."""
        groups, shares = camera_groups(camera_ids, len(self)), current_shares()
        bracket, near, half = shares.agreed(self._guess(groups, count))
        while True:
            smallest = MeanOfSmallest(count, bracket, self._limit, len(self))
            held = HeldPairs(len(self), near)
            # A later bracket may be narrower than what is to be held.
            within, across = self._scaled(near), self._scaled(max(bracket.high, near))
            self._search(PairSearch(groups, within, across, smallest, held), shares, half)
            smallest.join(shares)
            held.join(shares)
            mean = smallest.mean()
            if mean is not None:
                self._pairs.take(held)
                return mean
            bracket, half = smallest.next_bracket(), False

    def visit_edges(self, epsilon: float, visit: EdgeVisitor) -> None:
        """Call `visit` with all pairs i < j within `epsilon`; see `Distances.visit_edges`."""
        self._pairs.visit(epsilon, lambda first, second, _: visit(first, second))

    def cluster_sums(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return sums to the own cluster and to all clustered samples; see `Distances.cluster_sums`."""
        clustered, outliers = np.flatnonzero(labels >= 0), np.flatnonzero(labels < 0)
        total = np.zeros(len(self))
        if self._sums is not None and 3 * len(outliers) <= len(self):
            total[clustered] = self._sums.values()[clustered] - self._sums_between(clustered, outliers)
        else:
            total[clustered] = self._sums_among(clustered)
        own, total = self._own_sums(labels), total / self._source.scale
        sizes = np.bincount(labels[clustered], minlength=1)
        if len(clustered) / 2 < sizes.max() < len(clustered):
            # The sum to the others would be a small difference of great sums, and is made directly instead.
            great = labels == int(sizes.argmax())
            members, others = np.flatnonzero(great), np.flatnonzero(~great & (labels >= 0))
            total[members] = own[members] + self._sums_between(members, others) / self._source.scale
        return own, total

    def exact_cluster_sums(self, labels: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return sums one distance by one; see `Distances.exact_cluster_sums`."""
        shares, (own, total) = current_shares(), np.zeros((2, len(members)))
        clustered = np.flatnonzero(labels >= 0)

        def work(position: int) -> None:
            own[position], total[position] = _sums_of(
                *self._features.arrays, labels, clustered, members[position]
            )

        run_blocks(range(len(members))[own_range(shares, len(members))], lambda: work)
        # What another worker has made is 0 here.
        return shares.summed(own), shares.summed(total)

    def _search(self, search: PairSearch, shares: Shares, half: bool = False) -> None:
        """Sweep over all pairs, in bfloat16 or in float32; the latter takes the sums with it where wanted.

        Of a shared sweep the sums are brought together; what the search's sinks were given is not.
        """
        source, sums = TileSource(self._features, half=True) if half else self._source, None
        if self._keep_sums and self._sums is None and not half:
            sums = self._sums = DistanceSums(len(self), len(self))
        everything = np.arange(len(self))

        def reader() -> TileReader:
            return TileReader(source, everything, everything, search, sums, sums)

        sweep(source, everything, None, reader, self._progress, "Euclidean distances", shares)
        if sums is not None:
            sums.join(shares)

    def _find(self, sink: PairSink, shares: Shares) -> None:
        """Add a worker's share of the pairs within the bound of a sink to it."""
        groups = np.zeros(len(self), dtype=np.int32)
        self._search(PairSearch(groups, self._scaled(sink.bound), held=sink), shares)

    def _scaled(self, distance: float) -> float:
        """Return the scaled square of a distance, a little more than it; -1 for a negative one."""
        return (distance * self._source.scale) ** 2 * (1 + 2.0**-20) if distance >= 0 else -1.0

    def _guess(self, groups: np.ndarray, count: int) -> _Guess:
        """Guess from a sample of pairs where the last of the `count` smallest distances lies.

        The bracket is four standard errors wide on either side.
        """
        total = len(self) * (len(self) - 1) // 2
        if total <= min(_SAMPLED_PAIRS, capacity(len(self))):
            return _Guess(Bracket(0.0, self._limit), self._limit)
        first, second = self._sampled_pairs(groups)
        if not len(first):
            return _Guess(Bracket(0.0, self._limit), -1.0)
        shares = current_shares()
        own = own_range(shares, len(first))
        distances = shares.gathered(np.sqrt(self._features.squared_distances(first[own], second[own])))
        sample = np.sort(distances)
        crossing = total - int(sum(size * (size - 1) // 2 for size in np.bincount(groups).tolist()))
        rank = count / crossing * len(sample)
        spread = 4 * math.sqrt(rank) + 10
        upper = math.ceil(rank + spread)
        high = float(sample[upper]) if upper < len(sample) else self._limit
        if 2 * count > capacity(len(self)):
            # Too many to be held: what lies below the bracket is added up from products.
            lower = math.floor(rank - spread)
            return _Guess(Bracket(float(sample[lower]) if lower >= 0 else 0.0, high), -1.0)
        pays = half_for_all(self._features, None, shares)
        half = pays and self._few_open(first, second, distances, high)
        return _Guess(Bracket(0.0, high), float(sample[: upper + 1].mean()), half)

    def _sampled_pairs(self, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return random pairs of different groups: samples [P] and samples [P]."""
        size = min(_SAMPLED_PAIRS, _SAMPLED_FOR_EACH * len(self))
        first, second = np.random.default_rng(0).integers(len(self), size=(2, size))
        crossing = (groups[first] != groups[second]) & (first != second)
        return first[crossing], second[crossing]

    def _few_open(self, first: np.ndarray, second: np.ndarray, distances: np.ndarray, radius: float) -> bool:
        """Return whether bfloat16 puts few of the pairs [P] that are beyond a radius within it."""
        source = self._source
        margin = (source.slope + HALF_ERROR) * (source.norms[first] + source.norms[second]) + source.floor
        # Once for the error of the product, once for what is allowed for it.
        reach = self._scaled(radius) + 2 * margin
        beyond = (distances > radius) & ((distances * source.scale) ** 2 <= reach)
        return float(beyond.mean()) <= _MOST_OPEN

    def _sums_among(self, members: np.ndarray) -> np.ndarray:
        """Return sums [M] of scaled distances among the samples `members` [M]."""
        sums = DistanceSums(len(members), len(members))
        self._sum(members, None, sums, sums)
        return sums.values()

    def _sums_between(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return sums [R] of scaled distances of `rows` [R] to `columns` [C]."""
        sums = DistanceSums(len(rows), len(columns))
        if len(columns):
            self._sum(rows, columns, sums, DistanceSums(len(columns), len(rows)))
        return sums.values()

    def _sum(
        self, rows: np.ndarray, columns: np.ndarray | None, row_sums: DistanceSums, column_sums: DistanceSums
    ) -> None:
        """Sweep for the sums of distances of all rows and columns."""
        partners = rows if columns is None else columns
        search = PairSearch(np.zeros(len(self), dtype=np.int32))

        def reader() -> TileReader:
            return TileReader(self._source, rows, partners, search, row_sums, column_sums)

        shares = current_shares()
        sweep(self._source, rows, columns, reader, self._progress, "sums of distances", shares)
        row_sums.join(shares)

    def _own_sums(self, labels: np.ndarray) -> np.ndarray:
        """Return sums [N] of distances to the samples of the own cluster."""
        own = np.zeros(len(self))
        order = np.argsort(labels, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
        clusters = [members for members in groups if labels[members[0]] >= 0]
        small = [members for members in clusters if len(members) <= _SMALL_CLUSTER]
        shares = current_shares()

        def work(members: np.ndarray) -> None:
            own[members] = _sums_within(*self._features.arrays, members)

        run_blocks(small[own_part(shares, [len(members) ** 2 for members in small])], lambda: work)
        own = shares.summed(own)
        for members in clusters:
            if len(members) > _SMALL_CLUSTER:
                own[members] = self._sums_among(members) / self._source.scale
        return own


@compiled(error_model="numpy")
def _sums_of(values, offsets, groups, labels, clustered, sample):  # type: ignore[no-untyped-def]
    """Return the sums of distances of a sample to its own cluster and to all clustered samples."""
    own, total = 0.0, 0.0
    for other in clustered:
        distance = np.sqrt(squared_distance(values, offsets, groups, sample, other))
        total += distance
        if labels[other] == labels[sample]:
            own += distance
    return own, total


@compiled(error_model="numpy")
def _sums_within(values, offsets, groups, members):  # type: ignore[no-untyped-def]
    """Return the sums [M] of distances among the samples `members` [M]."""
    sums = np.zeros(len(members))
    for i in range(len(members)):
        for j in range(i):
            distance = np.sqrt(squared_distance(values, offsets, groups, members[i], members[j]))
            sums[i] += distance
            sums[j] += distance
    return sums
