"""What a choice of settings looks at: the images, the machine and the source model's network."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from nplp.circumstances import usable_cores
from nplp.data.items import Item
from nplp.data.own_dataset import TracksAndTimes
from nplp.errors import UserError

__all__ = ["ImageFacts", "MachineFacts", "look_at_images", "look_at_machine", "none_readable"]

SAMPLE = 200
"""Images whose sizes are looked at, spread evenly over all."""


@dataclass(frozen=True)
class ImageFacts:
    """What is known of the N target images.

    Attributes:
        count: N.
        cameras: images of each camera by its name; one entry where cameras are not known.
        height: the median of a sample, in pixels.
        width: the median of a sample, in pixels.
        evaluated: whether there are images with identities to measure on.
        tracked: how many images are in a track.
        timed: whether times are known of some of these, in known cameras.
    """

    count: int
    cameras: dict[str, int]
    height: int
    width: int
    evaluated: bool
    tracked: int = 0
    timed: bool = False


@dataclass(frozen=True)
class MachineFacts:
    """The machine: ``gpu`` is the device's name, empty without one; ``cores`` are the processor's."""

    gpu: str
    cores: int


def look_at_images(
    items: Sequence[Item], evaluated: bool, tracks: TracksAndTimes | None = None
) -> ImageFacts:
    """Return the facts of training items; the headers of at most :data:`SAMPLE` files are read.

    Files that cannot be read have no size: the run, which decodes all images, tells of them.

    Args:
        items: N.
        evaluated: whether there are images with identities to measure on.
        tracks: of the N items; ``None`` where there are none.

    Raises:
        UserError: if none of the sample can be read.
    """
    numbers = np.unique(np.linspace(0, len(items) - 1, min(SAMPLE, len(items))).astype(int))
    chosen = [items[number] for number in numbers]
    sizes = [size for item in chosen if (size := _size_of(item[0]))]
    if not sizes:
        raise none_readable(chosen)
    width, height = np.median(np.array(sizes), axis=0)
    cameras = dict(sorted(Counter(str(item[2]) for item in items).items()))
    inside = np.zeros(len(items), dtype=bool) if tracks is None else tracks.tracks >= 0
    timed = tracks is not None and not np.isnan(tracks.times[inside]).all()
    return ImageFacts(len(items), cameras, int(height), int(width), evaluated, int(inside.sum()), timed)


def none_readable(chosen: Sequence[Item]) -> UserError:
    """Return the error of images that were looked at, none of which can be read."""
    return UserError(
        f"none of {len(chosen)} images that were looked at can be read, first {chosen[0][0]!r}: nplp doctor "
        "says why"
    )


def _size_of(path: str) -> tuple[int, int] | None:
    """Return width and height by a file's header; None where it cannot be read."""
    try:
        with Image.open(path) as image:
            return image.size
    except MemoryError:
        raise
    # Headers of damaged files raise errors of every kind.
    except Exception:  # noqa: BLE001
        return None


def look_at_machine(device: str) -> MachineFacts:
    """Return the facts of this machine; ``device`` is MODEL.DEVICE."""
    gpu = torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else ""
    return MachineFacts(gpu, usable_cores())
