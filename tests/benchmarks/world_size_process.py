"""Runs what a folder asks for in several processes, for a test: world_size_process.py PROCESSES FOLDER."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from nplp.distributed.processes import launch
from world_sizes import adapt_all

if __name__ == "__main__":
    launch(adapt_all, int(sys.argv[1]), args=(sys.argv[2],), device="cpu")
