"""Looks at every image once before hours are spent on them."""

import logging
import os
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

from nplp.circumstances import usable_cores
from nplp.data.images import UnreadableImageError, decode
from nplp.errors import UserError

__all__ = ["verify_images"]

logger = logging.getLogger(__name__)

NAMED_AT_MOST = 5
IN_A_TASK = 16
"""Images that a thread takes at a time."""


def verify_images(
    paths: list[str], what: str, workers: int | None = None, skip: bool = False, skippable: bool = True
) -> set[str]:
    """Decode every image, with a progress bar on a terminal.

    Args:
        paths: the image files.
        what: what they are, for the message.
        workers: decoding threads; ``None``: one a core.
        skip: log the files that cannot be decoded instead of raising, unless they are all.
        skippable: whether ``DATASETS.SKIP_CORRUPT`` would help, for the message.

    Returns:
        The files that cannot be decoded.

    Raises:
        UserError: naming the number of files that cannot be decoded, the first of them and why.
    """
    faults: list[str] = []
    # Handing images to threads one by one costs as much as decoding small ones.
    tasks = [paths[start : start + IN_A_TASK] for start in range(0, len(paths), IN_A_TASK)]
    bar = tqdm(total=len(paths), desc=f"Checking {what}", unit="image", leave=False, disable=None)
    with bar, ThreadPoolExecutor(workers or usable_cores()) as pool:
        for found in pool.map(_faults, tasks):
            faults.extend(found)
            bar.update(len(found))
    bad = {path: fault for path, fault in zip(paths, faults, strict=True) if fault}
    if bad:
        # The same name may be there in several folders.
        folder = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
        named = [f"{os.path.relpath(path, folder)} ({fault})" for path, fault in bad.items()]
        rest = f" and {len(bad) - NAMED_AT_MOST} more" if len(bad) > NAMED_AT_MOST else ""
        message = (
            f"{len(bad)} of {len(paths)} images of {what} cannot be read, in {folder}: "
            f"{', '.join(named[:NAMED_AT_MOST])}{rest}"
        )
        # Names that are not of the system's encoding cannot be written as they are.
        message = message.encode("utf-8", "backslashreplace").decode("utf-8")
        if not skip or len(bad) == len(paths):
            skipping = ", or leave them out: nplp adapt --skip-unreadable, else DATASETS.SKIP_CORRUPT True"
            raise UserError(f"{message}: replace or remove them{skipping if skippable else ''}")
        logger.warning("%s: left out", message)
        for line in named[NAMED_AT_MOST:]:
            logger.info("  left out: %s", line)
    return set(bad)


def _faults(paths: list[str]) -> list[str]:
    return [_fault(path) for path in paths]


def _fault(path: str) -> str:
    """Return why an image cannot be decoded, in a few words; empty when it can."""
    try:
        decode(path)
    except UnreadableImageError as error:
        return error.reason
    return ""
