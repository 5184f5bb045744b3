"""Features of image files, in the order of the files, by whatever kind of model.

Shapes: N image files, B images in a batch, H x W pixels, D values of a feature.
"""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

import numpy as np
from PIL import Image
from tqdm import tqdm

from nplp.circumstances import usable_cores
from nplp.data.images import UnreadableImageError, decode
from nplp.errors import UserError, printable
from nplp.memory import ShrinkingBlocks

__all__ = ["Embedder", "Forward"]

logger = logging.getLogger(__name__)

Forward = Callable[[np.ndarray, Sequence[str] | None], np.ndarray]
"""Gives features [B, D] float32 of RGB images [B, H, W, 3] uint8 and the names of their cameras, or None."""

NAMED_AT_MOST = 5
READERS = 8
"""Most threads that decode images."""


@dataclass(frozen=True)
class Embedder:
    """A trained model that turns image files into features; :func:`nplp.search.load_model` makes one.

    Attributes:
        forward: the model itself.
        size: H and W; every image is resized to it, as in the evaluation of the model.
        dim: D.
        description: what the model is, in one line.
        source: what it was loaded from.
        known_cameras: the names of the cameras by whose statistics features are corrected; ``None`` where
            the model has none, and then the cameras of images change nothing.
    """

    forward: Forward
    size: tuple[int, int]
    dim: int
    description: str
    source: str = ""
    known_cameras: tuple[str, ...] | None = None

    @overload
    def embed(
        self,
        paths: Sequence[str | Path],
        cameras: Sequence[str | None] | None = ...,
        batch: int = ...,
        progress: bool = ...,
        *,
        skip_unreadable: Literal[False] = ...,
    ) -> np.ndarray: ...

    @overload
    def embed(
        self,
        paths: Sequence[str | Path],
        cameras: Sequence[str | None] | None = ...,
        batch: int = ...,
        progress: bool = ...,
        *,
        skip_unreadable: Literal[True],
    ) -> tuple[np.ndarray, dict[int, str]]: ...

    def embed(
        self,
        paths: Sequence[str | Path],
        cameras: Sequence[str | None] | None = None,
        batch: int = 64,
        progress: bool = True,
        *,
        skip_unreadable: bool = False,
    ) -> np.ndarray | tuple[np.ndarray, dict[int, str]]:
        """Return the features [N, D] float32 of image files, in their order; they are not normalised.

        Images are decoded as in the model's evaluation, in threads, while the model works on those before.
        Memory grows with N x D x 4 bytes.

        Args:
            paths: N image files.
            cameras: the N names of the cameras that took them, ``None`` for one that is not known. An image
                of a camera that the model does not know gets the overall statistics (docs/cameras.md).
            batch: images at a time; halved, with a warning, where memory does not suffice.
            progress: whether a progress bar is shown on a terminal.
            skip_unreadable: leave out what cannot be read.

        Returns:
            The features; with ``skip_unreadable`` also why images were left out, by their places in
            ``paths``. The rows are then those of the other images.

        Raises:
            UserError: naming the images that cannot be read (with ``skip_unreadable`` only where all are), or
                if a feature is not finite.
            ValueError: if ``batch`` is below 1 or there are not as many cameras as paths.
        """
        if batch < 1:
            raise ValueError(f"batch must be at least 1, got {batch}")
        if cameras is not None and len(cameras) != len(paths):
            raise ValueError(f"{len(paths)} images need as many cameras, got {len(cameras)}")
        self._say_unknown(cameras)
        names = [os.fspath(path) for path in paths]
        features, faults = self._embed(names, cameras, batch, progress, skip_unreadable)
        if faults and (not skip_unreadable or len(faults) == len(names)):
            raise _unreadable(names, faults)
        return (features, faults) if skip_unreadable else features

    def probe(self) -> np.ndarray:
        """Return the feature [D] of one fixed picture, which tells whether two models are the same."""
        rng = np.random.default_rng(0)
        picture = rng.integers(0, 256, (1, *self.size, 3), dtype=np.uint8)
        return np.asarray(self.forward(picture, None)[0], dtype=np.float32)

    def _embed(
        self,
        names: list[str],
        cameras: Sequence[str | None] | None,
        batch: int,
        progress: bool,
        skip_unreadable: bool,
    ) -> tuple[np.ndarray, dict[int, str]]:
        """Return features [kept, D] and the reasons of what cannot be read, by place."""
        parts: list[np.ndarray] = [np.empty((0, self.dim), np.float32)]
        faults: dict[int, str] = {}
        blocks = ShrinkingBlocks("Embedding", batch)
        waiting: list[tuple[int, np.ndarray]] = []

        def flush() -> None:
            # After a fault that ends in an error the rest is only looked at.
            if waiting and (skip_unreadable or not faults):
                parts.extend(self._forward(names, cameras, waiting, blocks))
            waiting.clear()

        bar = tqdm(
            _read_all(names, self.size, 2 * batch),
            total=len(names),
            desc="Embedding",
            unit="image",
            leave=False,
            disable=None if progress else True,
        )
        for place, image in enumerate(bar):
            if isinstance(image, UnreadableImageError):
                faults[place] = image.reason
                continue
            waiting.append((place, image))
            if len(waiting) == batch:
                flush()
        flush()
        return np.concatenate(parts), faults

    def _forward(
        self,
        names: list[str],
        cameras: Sequence[str | None] | None,
        waiting: list[tuple[int, np.ndarray]],
        blocks: ShrinkingBlocks,
    ) -> list[np.ndarray]:
        """Return the features of images that were read, in blocks that fit into memory."""
        parts: list[np.ndarray] = []

        def make(start: int, stop: int) -> np.ndarray:
            part = waiting[start:stop]
            # A name that no camera has stands for one that is not known.
            known = None if cameras is None else [cameras[place] or "" for place, _ in part]
            features = np.asarray(self.forward(np.stack([image for _, image in part]), known), np.float32)
            bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
            if bad.size:
                name = names[part[bad[0]][0]]
                raise UserError(f"{name!r} gets values that are no numbers: use another model")
            return features

        blocks.run(len(waiting), make, parts.append)
        return parts

    def _say_unknown(self, cameras: Sequence[str | None] | None) -> None:
        """Warn where the model corrects features by camera and does not know the images' cameras."""
        if self.known_cameras is None:
            return
        shown = ", ".join(map(printable, self.known_cameras[:NAMED_AT_MOST]))
        if cameras is None:
            logger.warning("No cameras are given: images get the overall statistics, not those of %s", shown)
            return
        unknown = sorted({str(camera) for camera in cameras} - set(self.known_cameras))
        if unknown:
            logger.warning(
                "The model does not know %d of the cameras (%s), whose images get the overall "
                "statistics; it knows %s",
                len(unknown),
                ", ".join(map(printable, unknown[:NAMED_AT_MOST])),
                shown,
            )


def _read(path: str, size: tuple[int, int]) -> np.ndarray | UnreadableImageError:
    """Return an image [H, W, 3] uint8 as the test-time transformation makes it, or why it cannot be read."""
    try:
        return np.asarray(decode(path).image.resize(size[::-1], Image.Resampling.BICUBIC))
    except UnreadableImageError as error:
        return error


def _read_all(
    names: list[str], size: tuple[int, int], ahead: int
) -> Iterator[np.ndarray | UnreadableImageError]:
    """Yield the images in their order; at most ``ahead`` of them are in memory beside those yielded."""
    with ThreadPoolExecutor(min(READERS, usable_cores())) as pool:
        running = deque(pool.submit(_read, name, size) for name in names[:ahead])
        for name in names[ahead:]:
            image = running.popleft().result()
            running.append(pool.submit(_read, name, size))
            yield image
        while running:
            yield running.popleft().result()


def _unreadable(names: list[str], faults: dict[int, str]) -> UserError:
    """Return the error that names images that cannot be read."""
    named = [f"{names[place]!r} ({reason})" for place, reason in list(faults.items())[:NAMED_AT_MOST]]
    rest = f" and {len(faults) - NAMED_AT_MOST} more" if len(faults) > NAMED_AT_MOST else ""
    return UserError(
        f"{len(faults)} of {len(names)} images cannot be read: {', '.join(named)}{rest}: replace or remove "
        "them, or leave them out (skip_unreadable=True, --skip-unreadable)"
    )
