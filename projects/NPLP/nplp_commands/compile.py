"""Compile and keep the kernels of clustering and evaluation, which the first run would otherwise wait for."""

import argparse
import sys
import time

from nplp_commands.parsing import OneLineParser, run_tool

EPILOG = """\
examples:
  once after installing, as in the recipe of a container:
    nplp compile                 # half a minute
  kept in a folder of one's own, which all later commands then need to know too:
    NUMBA_CACHE_DIR=/shared/kernels nplp compile

Other versions of nplp and other kinds of processors compile their own. What only a GPU or several processes
call is compiled when they call it.
"""
PEOPLE, IMAGES, CAMERAS, VALUES = 8, 12, 3, 16


def build_parser() -> OneLineParser:
    """Return the parser."""
    return OneLineParser(prog="nplp compile", description=__doc__, epilog=EPILOG)


def main(_: argparse.Namespace) -> None:
    """Call what is compiled, for each kind of values that a run gives it."""
    start = time.monotonic()
    _call_kernels()
    sys.stdout.write(f"Compiled in {time.monotonic() - start:.0f} s\n")


def _call_kernels() -> None:
    """Label, evaluate and re-rank a few drawn features."""
    import numpy as np
    import torch
    from tqdm import tqdm

    from nplp.clustering import estimate_pseudo_labels
    from nplp.clustering.settings import DISTANCES
    from nplp.evaluation import Reranking, evaluate_features, rerank_distances

    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(PEOPLE), IMAGES)
    cameras = np.tile(np.arange(IMAGES) % CAMERAS, PEOPLE)
    values = 10 * rng.normal(size=(PEOPLE, VALUES))[people] + rng.normal(size=(len(people), VALUES))
    features = torch.from_numpy(values.astype(np.float32))
    for distance in tqdm(DISTANCES, desc="Compiling", unit="distance", leave=False, disable=None):
        # Features by camera go through the kernels that plain ones do, and through more.
        estimate_pseudo_labels(
            features, cameras, alpha=0.1, distance=distance, camera_centering=True, camera_scaling=True
        )
    queries, gallery = slice(None, IMAGES), slice(IMAGES // 2, None)
    labels = people[queries], people[gallery], cameras[queries], cameras[gallery]
    evaluate_features(features[queries], features[gallery], *labels)
    rerank_distances(features[queries], features[gallery], settings=Reranking(k1=5, k2=2))


def command_line() -> None:
    """Parse the command line and do what it asks for."""
    run_tool(build_parser(), main)


if __name__ == "__main__":
    command_line()
