"""Readers of Market-1501, DukeMTMC-reID and MSMT17, as published or with anyone's images in their layouts.

The toolbox's classes hold the published data alone: other identities and cameras than theirs, other formats
than ``.jpg`` and a number in the name of a parent folder end in an error or in wrong items. Of the published
data these readers return what the toolbox's classes do, each list in the order of its paths.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from nplp.data.items import UNKNOWN_IDENTITY, Subset
from nplp.errors import UserError
from nplp.files import read_text

__all__ = [
    "BENCHMARKS",
    "FOLDERS",
    "JUNK",
    "NO_NAME",
    "PERSON_AND_CAMERA",
    "MissingError",
    "image_files",
    "image_suffixes",
    "read_benchmark",
    "read_folder",
]

PERSON_AND_CAMERA = re.compile(r"(-?\d+)_c(\d+)", re.ASCII)
"""How a name begins in Market-1501 and DukeMTMC-reID: ``0002_c1s1_000451_03.jpg``."""
THIRD_FIELD = re.compile(r"[^_]*_[^_]*_(\d+)", re.ASCII)
"""Where the camera is in a name of MSMT17: ``0000_001_02_0303morning_0008_0.jpg``."""
LISTED = re.compile(r"(\S.*?)\s+(-?\d+)", re.ASCII)
"""A line of MSMT17's lists: path and identity."""

FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
MARKET, DUKE = "Market-1501-v15.09.15", "DukeMTMC-reID"
MSMT17 = {"MSMT17_V1": (1, 2), "MSMT17_V2": (2, 1), "MSMT17": (1, 2)}
"""Folders of MSMT17, and of which version the folders in them may be, the likelier first."""
VERSIONS = {1: ("train", "test"), 2: ("mask_train_v2", "mask_test_v2")}

HIDDEN = "hidden"
NO_IMAGE = "of no image format"
NO_NAME = "whose name does not follow the data set's naming, such as 0002_c1"
JUNK = "junk, person -1"

NOT_DECODED = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF")
"""Formats that Pillow knows by sight and can decode with other programs only, or not at all."""


class MissingError(UserError):
    """A folder or a list that does not exist; the message is its path."""


def image_suffixes() -> frozenset[str]:
    """Return the endings, in small letters, of the files that Pillow can decode: ``.jpg`` and many others."""
    suffixes = Image.registered_extensions()
    return frozenset(
        suffix for suffix, kind in suffixes.items() if kind in Image.OPEN and kind not in NOT_DECODED
    )


def read_benchmark(name: str, subset: str, root: str) -> Subset:
    """Return the items of a benchmark as the toolbox's class of that name gives them.

    Args:
        name: of :data:`BENCHMARKS`.
        subset: ``"train"``, ``"query"`` or ``"gallery"``. A training image with a negative identity is of
            an unknown person; elsewhere it is junk and left out.
        root: the folder that holds the benchmark's.

    Raises:
        MissingError: if a folder or a list is not there.
        UserError: if a folder cannot be listed, or a line of a list is not a path and an identity.
    """
    if name == "MSMT17":
        return _read_msmt17(subset, root)
    folder = os.path.join(root, MARKET if name == "Market1501" else DUKE)
    if name == "Market1501" and not os.path.isdir(folder):
        # The toolbox also takes a root that is the benchmark's own folder.
        folder = root if os.path.isdir(os.path.join(root, FOLDERS[subset])) else folder
    return read_folder(os.path.join(folder, FOLDERS[subset]), subset, BENCHMARKS[name])


def read_folder(folder: str, subset: str, prefix: str) -> Subset:
    """Return the images of a folder and of those in it whose names begin with identity and camera.

    Args:
        folder: taken literally.
        subset: as for :func:`read_benchmark`.
        prefix: what identities and cameras of a training set begin with.

    Raises:
        MissingError: if the folder is not there.
        UserError: if it or a folder in it cannot be listed.
    """
    if not os.path.isdir(folder):
        raise MissingError(folder)
    images = Subset([], source=repr(folder), camera_prefix=f"{prefix}_")
    for path in image_files(folder, images):
        match = PERSON_AND_CAMERA.match(os.path.basename(path))
        if match is None:
            images.leave_out(NO_NAME, path)
        else:
            _add(images, subset, path, int(match[1]), int(match[2]) - 1, prefix)
    images.items.sort(key=lambda item: item[0])
    return images


def image_files(folder: str, found: Subset) -> Iterator[str]:
    """Yield the images in a folder and in those below it; what is none is left out of ``found``.

    Raises:
        UserError: if a folder cannot be listed.
    """
    suffixes = image_suffixes()
    for path, hidden in _files(folder):
        if hidden:
            found.leave_out(HIDDEN, path)
        elif os.path.splitext(path)[1].lower() not in suffixes:
            found.leave_out(NO_IMAGE, path)
        else:
            yield path


def _add(images: Subset, subset: str, path: str, identity: int, camera: int, prefix: str) -> None:
    """Add an image to the items, or count it as junk."""
    if subset == "train":
        person = UNKNOWN_IDENTITY if identity < 0 else f"{prefix}_{identity}"
        images.items.append((path, person, f"{prefix}_{camera}"))
    elif identity < 0:
        images.leave_out(JUNK, path)
    else:
        images.items.append((path, identity, camera))


def _files(folder: str, hidden: bool = False, above: tuple[str, ...] = ()) -> Iterator[tuple[str, bool]]:
    """Yield the files of a folder and of the folders in it, and whether each is hidden, in a fixed order."""
    real = os.path.realpath(folder)
    if real in above:
        # A link to a folder that it lies in.
        return
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(
            f"{folder!r} cannot be listed ({error.strerror}): let it be read, or remove it"
        ) from error
    for entry in entries:
        concealed = hidden or entry.name.startswith(".")
        if entry.is_dir():
            yield from _files(entry.path, concealed, (*above, real))
        else:
            yield entry.path, concealed


def _read_msmt17(subset: str, root: str) -> Subset:
    """Return what a list of MSMT17, of either version, names."""
    folder, version = _find_msmt17(root)
    training, testing = VERSIONS[version]
    folder_of_images = os.path.join(folder, training if subset == "train" else testing)
    if not os.path.isdir(folder_of_images):
        raise MissingError(folder_of_images)
    path = os.path.join(folder, f"list_{subset}.txt")
    prefix = BENCHMARKS["MSMT17"]
    where = f"{folder_of_images!r} by {os.path.basename(path)}, version {version}"
    images = Subset([], source=where, camera_prefix=f"{prefix}_")
    # The people of the test set are numbered from 0 again, and the toolbox puts them after the training's.
    first = 0 if subset == "train" else _training_people(folder)
    for number, line in _lines(path):
        match = LISTED.fullmatch(line)
        camera = THIRD_FIELD.match(os.path.basename(match[1])) if match else None
        if match is None or camera is None:
            raise UserError(
                f"line {number} of {path!r} is {line[:80]!r}: it must be a path and an identity, such as "
                "'0000/0000_001_02_0303morning_0008_0.jpg 0', with the camera as the third number"
            )
        identity = int(match[2]) + (first if int(match[2]) >= 0 else 0)
        place = os.path.join(folder_of_images, match[1])
        _add(images, subset, place, identity, int(camera[1]) - 1, prefix)
    images.items.sort(key=lambda item: item[0])
    return images


def _find_msmt17(root: str) -> tuple[str, int]:
    """Return MSMT17's folder and its version."""
    for name, versions in MSMT17.items():
        for version in versions:
            folder = os.path.join(root, name)
            if any(os.path.isdir(os.path.join(folder, images)) for images in VERSIONS[version]):
                return folder, version
    raise MissingError(os.path.join(root, "MSMT17_V1"))


def _training_people(folder: str) -> int:
    """Return how many people the training list names; 0 where it is not there, as evaluation needs it not."""
    try:
        lines = [LISTED.fullmatch(line) for _, line in _lines(os.path.join(folder, "list_train.txt"))]
    except UserError:
        return 0
    return len({int(line[2]) for line in lines if line and int(line[2]) >= 0})


def _lines(path: str) -> list[tuple[int, str]]:
    """Return the lines of a list that are not empty, with their numbers from 1."""
    if not os.path.exists(path):
        raise MissingError(path)
    text = read_text(Path(path), "save it as text in UTF-8", encoding="utf-8-sig")
    return [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


BENCHMARKS = {"Market1501": "market1501", "DukeMTMC": "dukemtmc", "MSMT17": "msmt17"}
"""Benchmarks, by what the identities and cameras of their training sets begin with."""
