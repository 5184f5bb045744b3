"""Images to read."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def items(tmp_path):
    """Sixteen images of noise by two cameras, as a training set lists them."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(16):
        path = tmp_path / f"{number}.png"
        Image.fromarray(rng.integers(0, 255, (64, 32, 3), dtype=np.uint8)).save(path)
        found.append((str(path), -1, number % 2))
    return found
