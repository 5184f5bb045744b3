"""Bootstrap intervals of metrics over identities.

Queries of one person are alike: a person who is hard to find lowers all of them. People are therefore
resampled, each with all of their queries (the cluster bootstrap of Davison and Hinkley, "Bootstrap Methods
and their Application", 1997, section 3.8). An interval says how much a figure depends on who was in the test
set; it says nothing of other cameras, other training images or another seed.

Shapes: V queries with a match, P identities, M metrics, R resamples.
"""

import numpy as np

__all__ = ["bootstrap_intervals"]

LEVEL = 0.95
LEAST_IDENTITIES = 2


def bootstrap_intervals(
    values: np.ndarray, identities: np.ndarray, resamples: int = 1000, seed: int = 0, level: float = LEVEL
) -> np.ndarray | None:
    """Return the percentile interval of the mean of each metric over queries.

    Each resample draws P identities with replacement and averages over all queries of those drawn.

    Args:
        values: ``[V, M]`` real numbers, the metrics of each query.
        identities: ``[V]`` integers.
        resamples: R, at least 1.
        seed: of the drawing; with a seed the result is the same.
        level: share of the resamples within the interval, in (0, 1).

    Returns:
        ``[M, 2]`` float64, low and high; None for one identity, of which no spread can be seen.
        Memory: 8 bytes for each resample and metric, and each identity and metric.

    Raises:
        ValueError: if shapes do not fit, there is no query, or an argument is out of range.
    """
    values, identities = np.asarray(values, dtype=np.float64), np.asarray(identities)
    if values.ndim != 2 or identities.shape != values.shape[:1] or not len(values):
        raise ValueError(
            f"values must be [V, M] and identities [V] with at least one query, got shapes {values.shape} "
            f"and {identities.shape}"
        )
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level}")
    people = np.unique(identities, return_inverse=True)[1].reshape(-1)
    sizes = np.bincount(people)
    count = len(sizes)
    if count < LEAST_IDENTITIES:
        return None
    sums = np.zeros((count, values.shape[1]))
    np.add.at(sums, people, values)
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, values.shape[1]))
    for number in range(resamples):
        drawn = rng.integers(count, size=count)
        means[number] = sums[drawn].sum(axis=0) / sizes[drawn].sum()
    tail = (1 - level) / 2
    return np.quantile(means, [tail, 1 - tail], axis=0).T
