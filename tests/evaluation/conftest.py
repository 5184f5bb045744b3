"""What the tests of the evaluation share."""

from collections.abc import Callable

import numpy as np
import pytest


@pytest.fixture(scope="session")
def random_case() -> Callable[..., tuple[np.ndarray, ...]]:
    """Return a function that draws distances, identities and cameras, in evaluate_rank's order."""

    def draw(seed: int, queries: int, gallery: int, identities: int, cameras: int, ties: bool = False):
        rng = np.random.default_rng(seed)
        shape = (queries, gallery)
        distances = rng.integers(0, 4, shape) if ties else rng.random(shape)
        return (
            distances.astype(np.float32),
            rng.integers(0, identities, queries),
            # Identities that no query has are distractors.
            rng.integers(-1, identities + 2, gallery),
            rng.integers(0, cameras, queries),
            rng.integers(0, cameras, gallery),
        )

    return draw
