"""Tracks of the built-in synthetic domains, as trackers of their cameras would have given them."""

import math

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
    tracks: dict[str, tuple[str, int, int]] = {}
    times: dict[str, float] = {}
    for name in cfg.DATASETS.NAMES:
        if name in SYNTHETIC:
            spec, folder = synthetic_images(cfg, name)
            for image in track_images(spec, options.LENGTH, options.WRONG):
                path = str(folder / market_name(image.record))
                tracks[path] = (name, image.record.camera, image.track)
                if options.TIMES:
                    times[path] = image.time
    paths = [path for path, _, _ in items]
    return TracksAndTimes.of(
        [tracks.get(path) for path in paths], [times.get(path, math.nan) for path in paths]
    )
