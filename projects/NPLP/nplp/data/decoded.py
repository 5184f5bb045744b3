"""Decoded crops, kept for the next time they are read: in shared memory up to a budget, then in a file.

Kept is the outcome of what is the same each time: reading, turning upright, and the resizing that the
transformation begins with. Where it begins with something random, the image is kept at its own size. What is
random is drawn anew from the same pixels, so that batches are the same to the bit as without.

All workers of a loader share what one of them has kept, forked or spawned. Neither the memory nor the file
has a name: when the last process that uses them ends, however it does, they are gone.
"""

import os
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from multiprocessing import context, reduction
from shutil import disk_usage
from typing import Any

import numpy as np
from fastreid.config import CfgNode
from fastreid.utils import comm
from PIL import Image
from torchvision.transforms import Compose, Resize

from nplp.data.images import read_rgb
from nplp.memory import available_memory

__all__ = ["Crops", "DecodedCrops", "crops_kept", "crops_of", "fixed_part"]

HEADER = struct.Struct("<qqIHH")
"""Before a crop's pixels: when the file changed in ns, its bytes, a sum of the pixels, height and width."""
CHANNELS = 3
MEGABYTE = 2**20
SHARE_OF_FREE = 4
"""Of the memory that is free, and of the disk, a quarter is taken at most."""
NOWHERE = -1

Place = tuple[int, int, int]
"""Of a crop: the number of the file that it is kept in, its first byte there, its bytes with the header."""

_kept: ContextVar["DecodedCrops | None"] = ContextVar("_kept", default=None)


@contextmanager
def crops_kept(cfg: CfgNode) -> Iterator[None]:
    """Keep the decoded crops of the loaders that are built within the block, as ``DATALOADER.DECODED`` says.

    The processes of a machine divide its budgets.
    """
    budgets = cfg.DATALOADER.DECODED
    processes = comm.get_local_size()
    memory = min(budgets.MEMORY_MB * MEGABYTE, available_memory() // SHARE_OF_FREE) // processes
    store = DecodedCrops(memory, budgets.DISK_MB * MEGABYTE // processes, tempfile.gettempdir())
    token = _kept.set(store)
    try:
        yield
    finally:
        _kept.reset(token)
        store.close()


def fixed_part(transform: Callable[[Any], Any]) -> tuple[Resize | None, Callable[[Any], Any]]:
    """Return the resizing to one size that a transformation begins with, if it does, and the rest of it."""
    parts = transform.transforms if isinstance(transform, Compose) else []
    if parts and isinstance(parts[0], Resize) and len(np.atleast_1d(parts[0].size)) == 2:
        return parts[0], Compose(parts[1:])
    return None, transform


def crops_of(paths: Sequence[str], resize: Resize | None) -> "Crops":
    """Return the reader of a data set's crops, which keeps them within :func:`crops_kept`."""
    store = _kept.get()
    return Crops(resize) if store is None else store.crops(paths, resize)


class DecodedCrops:
    """Room for decoded crops: each has its place from the first time that a data set names it."""

    def __init__(self, memory: int, disk: int, folder: str) -> None:
        """Make room; nothing is taken before a crop is kept.

        Args:
            memory: bytes of shared memory at most.
            disk: bytes of a file at most, and a quarter of what is free there.
            folder: where that file is made, when there is need of it.
        """
        self._budgets = [memory, disk]
        self._folder = folder
        self._files: list[int] = [NOWHERE, NOWHERE]
        self._used = [0, 0]
        self._places: dict[tuple[str, tuple[int, ...] | None], Place] = {}

    def crops(self, paths: Sequence[str], resize: Resize | None) -> "Crops":
        """Return the reader of the crops of some files, N of them.

        Args:
            paths: the image files.
            resize: to one height and width; ``None`` for crops of the files' own sizes, whose headers are
                read.
        """
        size = None if resize is None else tuple(resize.size)
        places = [self._place(path, size) for path in paths]
        return Crops(resize, np.array(places, dtype=np.int64).reshape(-1, 3), self._files)

    def _place(self, path: str, size: tuple[int, ...] | None) -> Place:
        known = self._places.get((path, size))
        if known is None:
            pixels = _pixels_of(path) if size is None else size[0] * size[1]
            known = self._places[path, size] = self._take(pixels)
        return known

    def _take(self, pixels: int) -> Place:
        room = HEADER.size + CHANNELS * pixels
        for number in (0, 1):
            start = self._used[number]
            if pixels and start + room <= self._budgets[number] and self._open(number):
                self._used[number] += room
                return number, start, room
        return NOWHERE, 0, 0

    def _open(self, number: int) -> bool:
        """Make the memory (0) or the file (1) where it is not there yet; return whether it is."""
        if self._files[number] != NOWHERE:
            return True
        try:
            if number == 0 and hasattr(os, "memfd_create"):
                self._files[number] = os.memfd_create("nplp-crops", os.MFD_CLOEXEC)
            else:
                free = disk_usage(self._folder).free // SHARE_OF_FREE
                self._budgets[number] = min(self._budgets[number], free)
                with tempfile.TemporaryFile(dir=self._folder) as file:
                    self._files[number] = os.dup(file.fileno())
        except OSError:
            # Crops are decoded each time then.
            self._budgets[number] = 0
            return False
        return True

    def close(self) -> None:
        """Give the memory and the file up; readers that are left decode again."""
        for number, file in enumerate(self._files):
            if file != NOWHERE:
                os.close(file)
            self._files[number] = NOWHERE
            self._budgets[number] = 0
        self._places.clear()


class Crops:
    """The crops of a data set's files, decoded and resized, from where they are kept if they are."""

    def __init__(
        self, resize: Resize | None, places: np.ndarray | None = None, files: Sequence[int] = ()
    ) -> None:
        """Take what :meth:`DecodedCrops.crops` gives; without places nothing is kept.

        Args:
            resize: applied to an image that is decoded.
            places: [N, 3] int64, each a :data:`Place`; -1 for a crop that is not kept.
            files: their descriptors, which the store takes back when it is closed.
        """
        self._resize = resize
        self._places = places
        self._files = files

    def read(self, index: int, path: str) -> np.ndarray:
        """Return the crop of the file with number ``index``, [H, W, 3] uint8, perhaps read-only.

        A file that has changed since its crop was kept is decoded again.

        Raises:
            UnreadableImageError: if the file is not there, or must be decoded and cannot be.
        """
        number, start, room = (NOWHERE, 0, 0) if self._places is None else self._places[index].tolist()
        try:
            found = os.stat(path)
        except (OSError, ValueError):
            # The decoder says what is wrong.
            number = NOWHERE
        if number == NOWHERE or self._files[number] == NOWHERE:
            return self._decode(path)
        state = (found.st_mtime_ns, found.st_size)
        crop = _read(self._files[number], start, room, state)
        if crop is None:
            crop = self._decode(path)
            _write(self._files[number], start, room, state, crop)
        return crop

    def _decode(self, path: str) -> np.ndarray:
        image = read_rgb(path)
        return np.asarray(image if self._resize is None else self._resize(image))

    def __getstate__(self) -> dict[str, Any]:
        """Hand the files on to a process that is being spawned; a copy elsewhere keeps nothing."""
        spawned = context.get_spawning_popen() is not None
        files = tuple(reduction.DupFd(file) if file != NOWHERE else None for file in self._files)
        return {
            "_resize": self._resize,
            "_places": self._places if spawned else None,
            "_files": files if spawned else (),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the files over."""
        files = tuple(NOWHERE if file is None else file.detach() for file in state["_files"])
        self.__dict__.update(state, _files=files)


def _read(file: int, start: int, room: int, state: tuple[int, int]) -> np.ndarray | None:
    """Return the crop that is kept at a place, if it is whole and of the file's present state."""
    try:
        record = os.pread(file, room, start)
    except OSError:
        return None
    if len(record) < HEADER.size:
        return None
    changed, size, total, height, width = HEADER.unpack_from(record)
    pixels = memoryview(record)[HEADER.size : HEADER.size + CHANNELS * height * width]
    # Another process may be writing them at this moment.
    if (changed, size) != state or zlib.crc32(pixels) != total or not pixels:
        return None
    return np.frombuffer(pixels, np.uint8).reshape(height, width, CHANNELS)


def _write(file: int, start: int, room: int, state: tuple[int, int], crop: np.ndarray) -> None:
    """Keep a crop at a place, if it fits there and there is memory or disk for it."""
    pixels = crop.tobytes()
    record = HEADER.pack(*state, zlib.crc32(pixels), *crop.shape[:2]) + pixels
    if len(record) <= room:
        # On a full disk the crop is decoded each time; what is cut off does not have its sum.
        with suppress(OSError):
            os.pwrite(file, record, start)


def _pixels_of(path: str) -> int:
    """Return an image's pixels as its header says; 0 where that cannot be read."""
    try:
        with Image.open(path) as image:
            return image.width * image.height
    # Of every kind, and said when the image is read.
    except Exception:  # noqa: BLE001
        return 0
