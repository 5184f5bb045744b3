"""Where float64 leaves a comparison open, so that the order of a sum may settle it either way.

An exact tie is not open: the stage has a rule for it (by index, or within the radius), and the same values
come of the same differences in any implementation. A near tie between values that are rounded is open, and
the reference is then no judge.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import clustering_oracle as oracle
import numpy as np

RADIUS_TOLERANCE = 1e-9
RANK_TOLERANCE = 1e-12
SCORE_TOLERANCE = 2e-9
SUMS_OF_MINIMA = 1e-14
"""How far two orders of summation may put an unrounded Jaccard distance apart."""


@dataclass(frozen=True)
class Seen:
    """The rows that distances are taken of, and what rounding they have seen.

    Attributes:
        rows: [N, D] float64, cameras centred if asked.
        classes: [N] samples of one class have the same rows in any implementation.
        exact: sums of squared differences are not rounded, in whatever order.
        slack: how far two implementations may put a distance apart because they round camera means.
    """

    rows: np.ndarray
    classes: np.ndarray
    exact: bool
    slack: float

    def key(self, i: int, j: int) -> Hashable:
        """Pairs of one key have the same distance in any implementation."""
        if self.exact:
            return float(((self.rows[i] - self.rows[j]) ** 2).sum())
        if self.slack:
            return frozenset((int(self.classes[i]), int(self.classes[j])))
        return np.abs(self.rows[i] - self.rows[j]).tobytes()


def see(values: np.ndarray, cameras: np.ndarray | None, centring: bool) -> Seen:
    centring = centring and cameras is not None
    groups = np.zeros(len(values)) if cameras is None or not centring else cameras
    rows = oracle.centred(values, cameras) if centring and cameras is not None else values
    names = np.unique(groups, return_inverse=True)[1].reshape(-1, 1)
    classes = np.unique(np.hstack([values, names]), axis=0, return_inverse=True)[1].reshape(-1)
    exact = squares_are_exact(rows) and (not centring or means_are_exact(values, groups))
    rounded = centring and not exact
    slack = 16 * 2.0**-53 * float(np.abs(values).max()) * values.shape[1] ** 0.5 if rounded else 0.0
    return Seen(rows, classes, exact, slack)


def multiples(values: np.ndarray, greatest: float, bits: int) -> np.ndarray | None:
    """Return values as integers, in units of `greatest` / 2^bits or a little more; None if they are none."""
    unit = 2.0 ** (np.ceil(np.log2(greatest)) - bits) if greatest > 0 else 1.0
    whole = np.round(values / unit)
    return whole.astype(np.int64) if (whole * unit == values).all() else None


def squares_are_exact(rows: np.ndarray) -> bool:
    spread = float((rows.max(axis=0) - rows.min(axis=0)).max())
    bits = int(53 - np.ceil(np.log2(rows.shape[1]))) // 2
    return spread == 0 or multiples(rows, spread, bits) is not None


def means_are_exact(values: np.ndarray, groups: np.ndarray) -> bool:
    whole = multiples(values, float(np.abs(values).max()), 40)
    if whole is None:
        return False
    parts = [whole, *(whole[groups == group] for group in np.unique(groups))]
    # A mean is a binary fraction if what is odd in the number of samples divides the sum.
    odd = [len(part) // (len(part) & -len(part)) for part in parts]
    return all((part.sum(axis=0) % divisor == 0).all() for part, divisor in zip(parts, odd, strict=True))


@dataclass(frozen=True)
class Distances:
    """The oracle's distances, and how far they can be relied on.

    Attributes:
        matrix: [N, N] float64.
        firm: [N, N] distances that have the same value, bit for bit, in any implementation.
        error: how far two implementations may put any distance apart, besides 1e-15 of itself.
        key: pairs of one key have the same distance in any implementation.
        open: near ties between neighbours leave the distances themselves undecided.
    """

    matrix: np.ndarray
    firm: np.ndarray
    error: float
    key: Callable[[int, int], Hashable]
    open: bool = False


def distances(seen: Seen, distance: str, k1: int, k2: int) -> Distances:
    if distance == "euclidean":
        firm = (seen.classes[:, None] == seen.classes) | seen.exact
        return Distances(oracle.euclidean_matrix(seen.rows), firm, seen.slack, seen.key)
    raw = oracle.unrounded_jaccard_matrix(seen.rows, k1, k2)
    # |d exp(-d^2)| is below 1: an error of the distances is no greater in the weights.
    error = SUMS_OF_MINIMA + 4 * seen.slack
    firm = (np.abs((raw * 1e12) % 1 - 0.5) > error * 1e12) | (raw == 1)
    if k2 > 1:
        averaged = np.sort(oracle.neighbour_ranks(seen.rows, min(k1, k2)), axis=1)
        firm |= (averaged[:, None] == averaged).all(axis=2)
    undecided = neighbours_are_open(seen, k1, k2)
    return Distances(np.round(raw, 12), firm, 2e-12 + error, lambda i, j: (i, j), undecided)


def neighbours_are_open(seen: Seen, k1: int, k2: int) -> bool:
    """Tell whether a near tie leaves open which samples are the k1, half of k1, or k2 nearest of another."""
    if seen.exact:
        return False
    squared = oracle.squared_matrix(seen.rows)
    ordered = np.sort(squared, axis=1)
    for k in {k1, oracle.half_of(k1), k2}:
        if k >= len(squared):
            continue
        last, following = ordered[:, k - 1], ordered[:, k]
        reach = 2 * RANK_TOLERANCE * following + 4 * np.sqrt(following) * seen.slack + 4 * seen.slack**2
        for i in np.flatnonzero(following - last <= reach):
            tied = np.flatnonzero(
                (squared[i] >= last[i] - reach[i]) & (squared[i] <= following[i] + reach[i])
            )
            if len({seen.key(i, int(j)) for j in tied}) > 1:
                return True
    return False


@dataclass(frozen=True)
class Radius:
    """A radius, and why pairs at that very distance may be relied on to be within it.

    Attributes:
        value: the radius.
        firm: it has the same value, bit for bit, in any implementation.
        key: of the pairs whose common distance it is, or None.
    """

    value: float
    firm: bool
    key: Hashable = None


def startup_radius(distances: Distances, cameras: np.ndarray | None, alpha: float, value: float) -> Radius:
    """Return the radius `value` of eq. 4 with what is known of the pairs that are averaged."""
    first, second = oracle.compared_pairs(len(distances.matrix), cameras)
    order = np.argsort(distances.matrix[first, second], kind="stable")
    chosen = order[: oracle.averaged_pairs(alpha, len(order))]
    first, second = first[chosen], second[chosen]
    values = distances.matrix[first, second]
    short = multiples(values, float(values.max()), 30) is not None and (value * 2.0**40) % 1 == 0
    firm = bool(distances.firm[first, second].all()) and (values[0] == values[-1] or short)
    alike = not firm and values[-1] - values[0] <= RADIUS_TOLERANCE * values[-1]
    keys = {distances.key(int(i), int(j)) for i, j in zip(first, second, strict=True)} if alike else set()
    return Radius(value, firm, keys.pop() if len(keys) == 1 else None)


def radius_is_open(distances: Distances, radius: Radius, inside: np.ndarray | None = None) -> bool:
    """Tell whether it is open which pairs, of those `inside` [N, N], are within a radius."""
    reach = RADIUS_TOLERANCE * radius.value + 2 * distances.error
    near = np.triu(np.abs(distances.matrix - radius.value) <= reach, 1)
    if inside is not None:
        near &= inside
    if radius.firm:
        near &= ~distances.firm
    pairs = np.argwhere(near)
    return any(radius.key is None or distances.key(int(i), int(j)) != radius.key for i, j in pairs)


def score_error(assessed: Distances, labels: np.ndarray) -> float:
    """Return how far the errors of distances may put a score apart.

    Of (b - a) / max(a, b) that is at most twice the error of a mean distance over the greater of the two, and
    the greater is no less than the mean over all clustered samples.
    """
    members = np.flatnonzero(labels >= 0)
    if assessed.error == 0 or len(members) < 2:
        return 0.0
    inside = np.ix_(members, members)
    error = 2 * assessed.error * (~assessed.firm[inside]).sum(axis=1)
    return float(
        np.divide(error, assessed.matrix[inside].sum(axis=1), out=np.zeros(len(error)), where=error > 0).max()
    )


def near_scores(scores: np.ndarray, tolerance: float) -> np.ndarray:
    """Tell which pairs of clusters [c, c] have scores that are neither apart nor clearly equal.

    Args:
        scores: [c] float64.
        tolerance: how far apart two scores must be to be surely in order.
    """
    rounding = 1e-11 + tolerance - SCORE_TOLERANCE
    # Scores are equal if they agree to 9 decimals, unless rounding to these is itself a near tie.
    firm = np.abs((scores * 1e9) % 1 - 0.5) > rounding * 1e9
    apart = np.abs(scores[:, None] - scores)
    alike = (apart <= rounding / 10) & firm[:, None] & firm
    # A score of 0 is that of a cluster of one sample, or of the only cluster: it is not rounded.
    alike |= (scores[:, None] == 0) & (scores == 0)
    near = (apart <= tolerance) & ~alike
    np.fill_diagonal(near, False)
    return near
