"""Files that are written whole or not at all, and files that are checked as they are read."""

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
import yaml

from nplp.distributed.children import protected_from_ending
from nplp.errors import UserError, in_one_line

__all__ = [
    "PART",
    "read_json",
    "read_json_lines",
    "read_text",
    "read_yaml",
    "save_atomically",
    "sha256_of",
    "summed_name",
    "write_atomically",
    "write_bytes_atomically",
    "write_npz_atomically",
]

PART = ".part"
"""The end of the name of a file that is being written."""

SUM_DIGITS = 16

_REMEDY = "make room or set another OUTPUT_DIR; what was saved before is whole, and --resume goes on from it"
"""What a user can do about a file of a run that cannot be written."""


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
    with _part_of(path, lambda file: file.write(content), remedy) as part:
        os.replace(part, path)


def write_npz_atomically(path: Path, arrays: Mapping[str, Any], remedy: str = _REMEDY) -> None:
    """Write arrays so that a ``.npz`` file holds either its old content or all of the new one.

    Args:
        path: where to.
        arrays: numbers and text by name, none of it Python objects.
        remedy: what the error tells the user to do.

    Raises:
        UserError: if it cannot be written, such as on a full disk.
    """
    content = io.BytesIO()
    np.savez(content, **arrays)
    write_bytes_atomically(path, content.getvalue(), remedy)


def save_atomically(data: dict[str, Any], path: Path, summed: bool = False) -> Path:
    """Write a checkpoint whole or not at all, and return its path.

    Args:
        data: what ``torch.save`` takes.
        path: where to; an earlier file there is replaced.
        summed: whether to add the first digits of the SHA-256 sum to the name.

    Raises:
        UserError: if it cannot be written; nothing is left of it, and an earlier file stays.
    """
    with _part_of(path, lambda file: torch.save(data, file)) as part:
        target = summed_name(path, part) if summed else path
        os.replace(part, target)
        _synchronise(path.parent)
    return target


@contextmanager
def _part_of(path: Path, write: Callable[[BinaryIO], object], remedy: str = _REMEDY) -> Iterator[Path]:
    """Write a file beside ``path``, for the block to rename; what the block leaves of it is removed.

    Raises:
        UserError: naming the reason it cannot, such as a full disk, a read-only folder or a limit on files.
    """
    part = path.with_name(path.name + PART)
    try:
        with protected_from_ending():
            with open(part, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            yield part
    except (OSError, RuntimeError) as error:
        # torch's writer reports a file that cannot grow as a RuntimeError of its own.
        cause = error if isinstance(error, OSError) else error.__context__ or error
        reason = getattr(cause, "strerror", None) or str(cause).partition("\n")[0]
        raise UserError(f"{str(path)!r} cannot be written ({reason}): {remedy}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def read_text(path: Path, remedy: str, encoding: str = "utf-8") -> str:
    """Return the content of a file of text.

    Args:
        path: the file.
        remedy: what the user can do about a file that cannot be read, for the message.
        encoding: UTF-8, or ``"utf-8-sig"`` where a byte order mark may come first.

    Raises:
        UserError: if it is not there, cannot be read or is not text.
    """
    try:
        return path.read_text(encoding=encoding)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise UserError(f"{str(path)!r} cannot be read ({reason}): {remedy}") from error


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Return the object that a file of JSON holds.

    Args:
        path: the file.
        remedy: as for :func:`read_text`.

    Raises:
        UserError: as :func:`read_text`, or if it is torn or holds something else than an object.
    """
    return _read_mapping(path, json.loads, remedy)


def read_yaml(path: Path, remedy: str) -> dict[str, Any]:
    """Return the mapping that a file of YAML holds, as :func:`read_json` does; an empty file holds none."""
    return _read_mapping(path, lambda text: yaml.safe_load(text) or {}, remedy)


def _read_mapping(path: Path, parse: Callable[[str], Any], remedy: str) -> dict[str, Any]:
    try:
        content = parse(read_text(path, remedy))
        fault = "" if isinstance(content, dict) else f"it holds a {type(content).__name__}"
    except UserError:
        raise
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        fault = in_one_line(error, 120)
    if fault:
        raise UserError(f"{str(path)!r} is damaged ({fault}): {remedy}")
    return dict(content)


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file with one in each line; none where there is no file.

    A line that is no object is left out: a run that was killed, or still writes, leaves one half-written.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    objects = []
    for line in lines:
        with suppress(ValueError):
            objects.append(json.loads(line))
    return [content for content in objects if isinstance(content, dict)]


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
