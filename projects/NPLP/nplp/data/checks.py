"""Looks at every image once before hours are spent on them."""

import logging
import os
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

from nplp.data.images import UnreadableImageError, decode
from nplp.errors import UserError

__all__ = ["verify_images"]

logger = logging.getLogger(__name__)

NAMED_AT_MOST = 5


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
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        faults = list(
            tqdm(
                pool.map(_fault, paths),
                total=len(paths),
                desc=f"Checking {what}",
                unit="image",
                leave=False,
                disable=None,
            )
        )
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


def _fault(path: str) -> str:
    """Return why an image cannot be decoded, in a few words; empty when it can."""
    try:
        decode(path)
    except UnreadableImageError as error:
        return error.reason
    return ""
