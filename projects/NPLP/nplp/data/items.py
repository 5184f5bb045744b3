"""The items of a data set, a line that describes them, and identities and cameras of one type each.

An item is ``(image path, identity, camera)`` as in the toolbox: the identity and the camera are strings
in a training set and integers in the query and gallery sets.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nplp.errors import UserError

__all__ = [
    "SUBSETS",
    "UNKNOWN_IDENTITY",
    "Item",
    "Subset",
    "common_prefix",
    "describe",
    "describe_left_out",
    "name_of_camera",
    "with_names",
    "with_numbers",
]

Item = tuple[str, Any, Any]

SUBSETS = ("train", "query", "gallery")

UNKNOWN_IDENTITY = "unknown"
"""The identity of a training image of which nobody knows who it shows."""

NAMELESS = (None, "", "-1", -1)
"""What data sets call an unknown person."""


@dataclass
class Subset:
    """What was found of a training, query or gallery set.

    Attributes:
        items: in the order of their paths.
        left_out: paths of the files that are not among them, by the reason.
        source: the folder, and what else tells where the items came from; for a message.
        camera_prefix: what training sets of this kind have before a camera's number, where cameras are text.
        camera_name: what all cameras are called in the training set where their numbers are made up, because
            cameras are unknown and evaluation must leave out no match; empty where they are known.
    """

    items: list[Item]
    left_out: dict[str, list[str]] = field(default_factory=dict)
    source: str = ""
    camera_prefix: str = ""
    camera_name: str = ""

    def leave_out(self, reason: str, path: str) -> None:
        """Count a file that is no item."""
        self.left_out.setdefault(reason, []).append(path)


def describe(name: str, subset: str, items: list[Item], read: Subset) -> str:
    """Return in one line what a subset holds, and what was left out."""
    people = {item[1] for item in items} - {UNKNOWN_IDENTITY}
    unknown = sum(item[1] == UNKNOWN_IDENTITY for item in items)
    counts = [
        _counted(len(items), "image", "images"),
        _counted(len(people), "person", "people") if people else "",
        _counted(unknown, "image of nobody known", "images of nobody known") if unknown else "",
        _counted(len({item[2] for item in items}), "camera", "cameras"),
    ]
    shown = ", ".join(filter(None, counts))
    return f"{name}, {subset}: {shown}, from {read.source}{describe_left_out(read)}"


def _counted(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def describe_left_out(read: Subset) -> str:
    """Return how many files were left out and why, naming the first of each; empty where none was."""
    if not read.left_out:
        return ""
    reasons = [
        f"{len(paths):,} {reason} (first {os.path.basename(paths[0])!r})"
        for reason, paths in read.left_out.items()
    ]
    total = _counted(sum(map(len, read.left_out.values())), "file", "files")
    return f"; {total} left out: {', '.join(reasons)}"


def with_names(items: list[Item], name: str) -> list[Item]:
    """Return a training set's items with strings for identities and cameras.

    Numbers get the data set's name before them: the same number is another person in another data set.
    """
    return [
        (
            path,
            UNKNOWN_IDENTITY if identity in NAMELESS else _named(identity, name),
            _named(camera, name),
        )
        for path, identity, camera in items
    ]


def _named(value: Any, name: str) -> str:
    return value if isinstance(value, str) else f"{name}_{value}"


def common_prefix(cameras: Iterable[object]) -> str:
    """Return what all cameras' names have before their numbers, such as "cuhk03_"; empty if they differ."""
    matches = [re.fullmatch(r"(.*_)\d+", camera) if isinstance(camera, str) else None for camera in cameras]
    prefixes = {match[1] if match else "" for match in matches}
    return prefixes.pop() if len(prefixes) == 1 else ""


def name_of_camera(camera: Any, prefix: str, name: str) -> str:
    """Return what a camera of query or gallery is called in the training set of the same data set.

    Text is the name.

    Args:
        camera: as it was read, text or a number.
        prefix: what the training set has before its cameras' numbers; empty: it has numbers, to which
            :func:`with_names` adds the data set's name.
        name: of the data set.
    """
    return f"{prefix}{camera}" if prefix and not isinstance(camera, str) else _named(camera, name)


def with_numbers(subsets: dict[str, list[Item]], name: str) -> dict[str, list[Item]]:
    """Return query and gallery with integers for identities and cameras.

    Integers stay as they are. Where there are others, or integers beyond 64 bits, all of a kind are numbered
    from 0 in the order of their text, the same in both sets.

    Raises:
        UserError: for an identity or a camera that is neither an integer nor text.
    """
    items = [item for part in subsets.values() for item in part]
    people, cameras = (_numbers(items, place, name) for place in (1, 2))
    return {
        subset: [(path, people[identity], cameras[camera]) for path, identity, camera in part]
        for subset, part in subsets.items()
    }


def _numbers(items: list[Item], place: int, name: str) -> dict[Any, int]:
    """Return the number of each identity (``place`` 1) or camera (``place`` 2)."""
    for item in items:
        if not isinstance(item[place], int | np.integer | str):
            what = "identity" if place == 1 else "camera"
            raise UserError(
                f"{name}: the {what} of {item[0]!r} is {item[place]!r}: it must be an integer or text"
            )
    values = {item[place] for item in items}
    if all(isinstance(value, int | np.integer) and abs(int(value)) < 2**63 for value in values):
        return {value: int(value) for value in values}
    in_order = sorted(values, key=lambda value: (str(value), isinstance(value, str)))
    return {value: number for number, value in enumerate(in_order)}
