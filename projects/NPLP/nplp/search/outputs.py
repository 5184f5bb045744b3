"""What the commands write: whole or not at all, and nothing in the place of something else unasked."""

import csv
import io
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nplp.clustering import OUTLIER
from nplp.errors import UserError
from nplp.files import PART, write_bytes_atomically, write_npz_atomically

__all__ = ["check_output", "check_output_folder", "write_embeddings", "write_group_folders", "write_groups"]

REMEDY = "make room, or name another file"
NO_GROUP = "no_group"


def check_output(path: Path, suffix: str, option: str, overwrite: bool) -> None:
    """Check, before any work, that a file can be written.

    Raises:
        UserError: if its name ends otherwise, its folder is missing, or it is there and not to be replaced.
    """
    if path.suffix.lower() != suffix:
        raise UserError(f"{option} must end in {suffix}, got {str(path)!r}")
    if path.is_dir():
        raise UserError(f"{option} {str(path)!r} is a folder: name a file")
    if not path.parent.is_dir():
        raise UserError(f"{option} {str(path)!r}: there is no folder {str(path.parent)!r}, make it first")
    if path.exists() and not overwrite:
        raise UserError(f"{option} {str(path)!r} is there already: add --overwrite, or name another")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"{option} {str(path)!r}: {str(path.parent)!r} cannot be written to")


def check_output_folder(path: Path, option: str) -> None:
    """Check, before any work, that a folder is new, or empty.

    Raises:
        UserError: if it holds something or is a file, or its own folder is missing.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{option} {str(path)!r} is there already and not empty: name a new folder")
    if not path.absolute().parent.is_dir():
        raise UserError(f"{option} {str(path)!r}: there is no folder {str(path.parent)!r}, make it first")


def write_embeddings(
    path: Path, paths: Sequence[str], features: np.ndarray, cameras: Sequence[str | None] | None, model: str
) -> None:
    """Write a ``.npz`` file that loads without pickle.

    Its arrays are ``paths`` [N] text, ``features`` [N, D] float32, ``model``, a line of text, and ``cameras``
    [N] text where they are known, empty for a camera that is not.

    Raises:
        UserError: if it cannot be written.
    """
    arrays = {"paths": np.array(paths, dtype=str), "features": features, "model": np.array(model)}
    if cameras is not None:
        arrays["cameras"] = np.array(["" if name is None else name for name in cameras], dtype=str)
    write_npz_atomically(path, arrays, REMEDY)


def write_groups(
    path: Path, paths: Sequence[str], cameras: Sequence[str | None] | None, labels: np.ndarray
) -> None:
    """Write a table (CSV, UTF-8) of ``path``, ``camera`` where known, and ``group``, empty for none.

    Raises:
        UserError: if it cannot be written.
    """
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["path", *([] if cameras is None else ["camera"]), "group"])
    for place, name in enumerate(paths):
        camera = [] if cameras is None else [cameras[place] or ""]
        table.writerow([name, *camera, "" if labels[place] == OUTLIER else int(labels[place])])
    # Names that are not of the system's encoding come back as the bytes that they are.
    write_bytes_atomically(path, text.getvalue().encode("utf-8", "surrogateescape"), REMEDY)


def write_group_folders(folder: Path, paths: Sequence[str], labels: np.ndarray, link: bool = False) -> None:
    """Copy images into a folder for each group, ``group_0001`` and on, and ``no_group``.

    They are copied into a folder beside it first, so that there is either all of it or nothing.

    Args:
        folder: new, or empty.
        paths: N image files; files of one name in a group get a number.
        labels: [N] int64.
        link: make links to the files instead.

    Raises:
        UserError: if they cannot be written.
    """
    part = folder.with_name(folder.name + PART)
    width = max(4, len(str(int(labels.max(initial=0)))))
    try:
        if part.exists():
            shutil.rmtree(part)
        for source, label in zip(paths, labels, strict=True):
            place = part / (NO_GROUP if label == OUTLIER else f"group_{label:0{width}d}")
            place.mkdir(parents=True, exist_ok=True)
            target = _free(place, Path(source))
            if link:
                target.symlink_to(os.path.abspath(source))
            else:
                shutil.copy2(source, target)
        part.mkdir(exist_ok=True)
        if folder.exists():
            folder.rmdir()
        os.replace(part, folder)
    except OSError as error:
        raise UserError(
            f"{str(folder)!r} cannot be written ({error.strerror}): make room, or name another folder"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _free(folder: Path, source: Path) -> Path:
    """Return where a file of a name goes in a folder that may have one of that name."""
    target, number = folder / source.name, 2
    while os.path.lexists(target):
        target = folder / f"{source.stem}_{number}{source.suffix}"
        number += 1
    return target
