"""Files that are whole or absent: written under another name, synchronised, then renamed."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from nplp.distributed.children import left_in_peace
from nplp.errors import UserError

__all__ = [
    "PART",
    "save_atomically",
    "sha256_of",
    "summed_name",
    "write_atomically",
    "write_bytes_atomically",
]

PART = ".part"
"""The end of the name of a file that is being written."""

SUM_DIGITS = 16

_REMEDY = "make room or set another OUTPUT_DIR; what was saved before is whole, and --resume goes on from it"
"""What a user can do about a file of a run that cannot be written."""


@contextmanager
def _part_of(path: Path, remedy: str = _REMEDY) -> Iterator[Path]:
    """Give the name under which a block writes ``path`` before it renames it; nothing else is left.

    Raises:
        UserError: naming the reason it cannot, such as a full disk, a read-only folder or a limit on files.
    """
    temporary = path.with_name(path.name + PART)
    try:
        with left_in_peace():
            yield temporary
    except (OSError, RuntimeError) as error:
        # torch's writer reports a file that cannot grow as a RuntimeError of its own.
        cause = error if isinstance(error, OSError) else error.__context__ or error
        reason = getattr(cause, "strerror", None) or str(cause).partition("\n")[0]
        raise UserError(f"{str(path)!r} cannot be written ({reason}): {remedy}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_atomically(path: Path, content: str) -> None:
    """Write text so that ``path`` holds either its old content or all of the new one.

    Raises:
        UserError: if it cannot be written.
    """
    write_bytes_atomically(path, content.encode("utf-8"))


def write_bytes_atomically(path: Path, content: bytes, remedy: str = _REMEDY) -> None:
    """Write bytes so that ``path`` holds either its old content or all of the new one.

    Args:
        path: where to.
        content: the bytes.
        remedy: what the error tells the user to do.

    Raises:
        UserError: if it cannot be written.
    """
    with _part_of(path, remedy) as temporary:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)


def save_atomically(data: dict[str, Any], path: Path, summed: bool = False) -> Path:
    """Write a checkpoint whole or not at all, and return its path.

    Args:
        data: what ``torch.save`` takes.
        path: where to; an earlier file there is replaced.
        summed: whether to add the first digits of the SHA-256 sum to the name.

    Raises:
        UserError: if it cannot be written; nothing is left of it, and an earlier file stays.
    """
    with _part_of(path) as temporary:
        with open(temporary, "wb") as file:
            torch.save(data, file)
            file.flush()
            os.fsync(file.fileno())
        if summed:
            path = summed_name(path, temporary)
        os.replace(temporary, path)
        _synchronise(path.parent)
    return path


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 sum in hexadecimal digits.

    Raises:
        OSError: if it cannot be read.
    """
    total = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def summed_name(path: Path, content: Path) -> Path:
    """Return ``path`` with the first digits of the SHA-256 sum of ``content`` added to its name."""
    return path.with_name(f"{path.stem}-{sha256_of(content)[:SUM_DIGITS]}{path.suffix}")


def _synchronise(folder: Path) -> None:
    """Make a renaming in a folder survive a loss of power, where folders can be synchronised."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
