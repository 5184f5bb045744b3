"""Two processes share a pass over pairs, in which the second one fails; run by a test.

Usage: failing_share_process.py error|killed
"""

import os
import signal
import sys

import numpy as np

from nplp.clustering import estimate_pseudo_labels
from nplp.clustering.sweep import shared_among
from nplp.distributed.processes import launch
from nplp.distributed.shares import RankShares, rank_shares
from nplp.errors import UserError


def main(how: str) -> None:
    """Label features; in the second process the third exchange fails."""
    shares = rank_shares()
    meet = RankShares._meet

    def failing(self: RankShares, kind: str, length: int = 0) -> list[int]:
        if self.number == 1 and self._exchanges == 2:
            if how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise UserError("the disk is full")
        return meet(self, kind, length)

    RankShares._meet = failing
    features = np.random.default_rng(0).normal(size=(80, 8)).astype(np.float32)
    with shared_among(shares):
        estimate_pseudo_labels(features, np.arange(80) % 3, distance="euclidean")
    sys.stdout.write("labelled\n")


if __name__ == "__main__":
    launch(main, 2, args=(sys.argv[1],), device="cpu")
