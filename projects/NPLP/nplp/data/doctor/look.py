"""One look at every image: its size, its kind, its faults, and two hashes of what it shows.

Shapes: N images, 32 bytes a perceptual hash, 16 bytes a sum of pixels.
"""

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import imagehash
import numpy as np
from PIL import Image
from tqdm import tqdm

from nplp.circumstances import usable_cores
from nplp.data.images import UnreadableImageError, decode, missing_or_empty

__all__ = ["HASH_BITS", "Looks", "look_at_files", "look_at_images"]

HASH_SIDE = 16
HASH_BITS = HASH_SIDE**2
"""64 bits, ImageHash's default, do not do for crops of people: 1 in 90,000 pairs of different people is then
within 8 bits, the distance of a copy that was cut by a pixel."""
SUM_BYTES = 16
BLANK = 8
"""An image in whose channels the values differ by no more, of 255, shows nothing."""
BATCH = 1024
"""Images whose futures exist at a time."""


@dataclass(frozen=True)
class Looks:
    """What was seen of N images.

    Attributes:
        faults: why an image cannot be read, by its number.
        sizes: [N, 2] int32, width and height, upright; 0 where unknown.
        modes: [N] of Pillow's names of how the files are stored; empty where unknown.
        sums: [N, 16] uint8, a sum of size and RGB pixels, equal for equal pictures.
        hashes: [N, 32] uint8, perceptual hashes, near for similar pictures.
        blank: [N] bool, whether an image is of one colour.
        decoded: whether the images were decoded at all.
        hashed: whether ``sums`` and ``hashes`` are filled.
    """

    faults: dict[int, str]
    sizes: np.ndarray
    modes: list[str]
    sums: np.ndarray
    hashes: np.ndarray
    blank: np.ndarray
    decoded: bool
    hashed: bool

    @property
    def readable(self) -> np.ndarray:
        """Return [N] bool, which images were decoded."""
        return self.sizes[:, 0] > 0


class _Look(NamedTuple):
    fault: str = ""
    size: tuple[int, int] = (0, 0)
    mode: str = ""
    total: bytes = b""
    hash: np.ndarray | None = None
    blank: bool = False


def look_at_files(paths: Sequence[str]) -> Looks:
    """Return which files are missing or empty, without decoding any."""
    looks = _nothing_seen(len(paths), decoded=False, hashed=False)
    for number, path in enumerate(paths):
        if fault := missing_or_empty(path):
            looks.faults[number] = fault
    return looks


def look_at_images(
    paths: Sequence[str], hashed: bool = True, workers: int | None = None, progress: bool = True
) -> Looks:
    """Decode each image once, in threads, with a progress bar on a terminal.

    Of an image 100 bytes are kept. Frames of 1920 x 1080 take 15 MB a thread while they are decoded.

    Args:
        paths: [N] image files.
        hashed: whether to compute what duplicates are found by.
        workers: threads; ``None``: one a core.
        progress: whether there may be a bar.
    """
    looks = _nothing_seen(len(paths), decoded=True, hashed=hashed)
    with tqdm(
        total=len(paths),
        desc="Looking at images",
        unit="image",
        leave=False,
        disable=None if progress else True,
    ) as bar:
        for number, look in enumerate(_looks(paths, hashed, workers)):
            _keep(looks, number, look)
            bar.update()
    return looks


def _nothing_seen(count: int, decoded: bool, hashed: bool) -> Looks:
    return Looks(
        faults={},
        sizes=np.zeros((count, 2), np.int32),
        modes=[""] * count,
        sums=np.zeros((count if hashed else 0, SUM_BYTES), np.uint8),
        hashes=np.zeros((count if hashed else 0, HASH_BITS // 8), np.uint8),
        blank=np.zeros(count, bool),
        decoded=decoded,
        hashed=hashed,
    )


def _keep(looks: Looks, number: int, look: _Look) -> None:
    if look.fault:
        looks.faults[number] = look.fault
        return
    looks.sizes[number] = look.size
    looks.modes[number] = look.mode
    looks.blank[number] = look.blank
    if looks.hashed:
        looks.sums[number] = np.frombuffer(look.total, np.uint8)
        looks.hashes[number] = look.hash


def _looks(paths: Sequence[str], hashed: bool, workers: int | None) -> Iterator[_Look]:
    with ThreadPoolExecutor(workers or usable_cores()) as pool, warnings.catch_warnings():
        # Pillow warns of damaged EXIF data and of large images, which are looked at here anyway.
        warnings.simplefilter("ignore")
        for start in range(0, len(paths), BATCH):
            yield from pool.map(lambda path: _look(path, hashed), paths[start : start + BATCH])


def _look(path: str, hashed: bool) -> _Look:
    try:
        decoded = decode(path)
    except UnreadableImageError as error:
        return _Look(error.reason)
    image = decoded.image
    extrema = np.reshape(image.getextrema(), (3, 2))
    blank = bool((extrema[:, 1] - extrema[:, 0] <= BLANK).all())
    seen = _Look(size=image.size, mode=decoded.mode, blank=blank)
    if not hashed:
        return seen
    return seen._replace(total=_sum_of(image), hash=_hash_of(image))


def _sum_of(image: Image.Image) -> bytes:
    size = f"{image.width} x {image.height}".encode()
    return hashlib.blake2b(image.tobytes(), digest_size=SUM_BYTES, person=size[:16]).digest()


def _hash_of(image: Image.Image) -> np.ndarray:
    """Return the perceptual hash of an RGB image: which of its low frequencies are above their median."""
    return np.packbits(imagehash.phash(image, HASH_SIDE).hash)
