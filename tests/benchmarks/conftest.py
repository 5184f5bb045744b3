"""Makes the benchmarks' modules importable: they are scripts side by side, not a package."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
