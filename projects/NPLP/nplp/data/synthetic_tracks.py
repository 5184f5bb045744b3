"""Tracks of the built-in synthetic domains, as trackers of their cameras would have given them."""

import numpy as np
from fastreid.config import CfgNode

from nplp.data.items import Item
from nplp.data.own_dataset import TracksAndTimes
from nplp.data.registered import SYNTHETIC, synthetic_images
from nplp_synthetic import market_name, track_images

__all__ = ["synthetic_tracks"]


def synthetic_tracks(cfg: CfgNode, items: list[Item]) -> TracksAndTimes:
    """Return the tracks and times of training items, in their order; those of other data sets have none.

    Args:
        cfg: the configuration; ``DATASETS.NAMES``, ``SYNTHETIC`` and ``SYNTHETIC_TRACKS`` are read, whose
            ``LENGTH`` is at least 1.
        items: N items, as :func:`nplp.data.datasets.load_training_items` returns them.

    Raises:
        UserError: if a domain cannot be kept in the cache folder.
    """
    options = cfg.DATASETS.SYNTHETIC_TRACKS
    found: dict[str, tuple[tuple[str, int, int], float]] = {}
    for name in cfg.DATASETS.NAMES:
        if name in SYNTHETIC:
            spec, folder = synthetic_images(cfg, name)
            for image in track_images(spec, options.LENGTH, options.WRONG):
                track = (name, image.record.camera, image.track)
                time = image.time if options.TIMES else np.nan
                found[str(folder / market_name(image.record))] = track, time
    own = [found.get(path) for path, _, _ in items]
    numbers = {track: number for number, track in enumerate(sorted({image[0] for image in own if image}))}
    return TracksAndTimes(
        np.array([numbers[image[0]] if image else -1 for image in own], dtype=np.int64),
        np.array([image[1] if image else np.nan for image in own], dtype=np.float64),
    )
