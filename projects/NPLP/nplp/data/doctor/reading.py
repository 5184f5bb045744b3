"""What doctor looks at, read as one table: a folder, a table in a file, or a registered data set."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastreid.config import CfgNode

from nplp.config import default_config
from nplp.data.benchmarks import BENCHMARKS, MissingError
from nplp.data.datasets import SUBSETS, SYNTHETIC, is_registered, read_subsets
from nplp.data.doctor.findings import Finding
from nplp.data.image_table import ImageTable
from nplp.data.items import UNKNOWN_IDENTITY, Subset, common_prefix, name_of_camera, with_names
from nplp.data.own_images import read_image_table
from nplp.data.pku import PKU_REID
from nplp.errors import UserError

__all__ = ["Read", "read_data", "read_registered"]


MSMT17 = "MSMT17"


@dataclass(frozen=True)
class Read:
    """A data set as it was read.

    Attributes:
        table: its images.
        name: of the toolbox's registry; empty for a folder or a file.
        findings: what was found while reading.
    """

    table: ImageTable
    name: str = ""
    findings: tuple[Finding, ...] = ()


def read_data(data: str, camera_pattern: str = "", columns: Mapping[str, str] | None = None) -> Read:
    """Read a registered data set by its name, or else a folder or a table.

    A name wins over a folder of that name in the current folder, which is ``./NAME``.

    Args:
        data: a name, or a path.
        camera_pattern: as for ``read_image_table``; for a folder or a table.
        columns: likewise.

    Raises:
        UserError: if it is neither, or cannot be read.
    """
    if is_registered(data):
        if camera_pattern or columns:
            raise UserError(
                f"{data} is a registered data set, whose cameras are known: leave --camera-pattern and "
                f"--columns away, or write ./{data} for the folder of that name"
            )
        return read_registered(data)
    if not os.path.exists(data):
        names = ", ".join((*BENCHMARKS, PKU_REID, *SYNTHETIC))
        raise UserError(
            f"{data!r} is no folder, no file and no registered data set: give a path, or a name such as "
            f"{names}"
        )
    # What a table names and what is not there is a finding.
    table = read_image_table(data, camera_pattern=camera_pattern, columns=columns, skip_missing=True)
    return Read(table)


def read_registered(name: str) -> Read:
    """Read what is there of a registered data set; what is missing becomes a finding.

    Raises:
        UserError: if nothing of it is there.
    """
    cfg = default_config()
    tried = {subset: _subset_or_error(cfg, name, subset) for subset in SUBSETS}
    read = {subset: part for subset, part in tried.items() if isinstance(part, Subset)}
    errors = {subset: part for subset, part in tried.items() if isinstance(part, UserError)}
    if not read:
        raise next(iter(errors.values()))
    findings = []
    for subset, error in errors.items():
        missing = isinstance(error.__cause__, MissingError | FileNotFoundError)
        findings.append(Finding.of("split-missing" if missing else "split-unreadable", f"{subset}: {error}"))
    return Read(_as_table(name, read), name, tuple(findings))


def _subset_or_error(cfg: CfgNode, name: str, subset: str) -> Subset | UserError:
    try:
        return read_subsets(cfg, name, (subset,))[subset]
    except UserError as error:
        return error


def _as_table(name: str, read: Mapping[str, Subset]) -> ImageTable:
    """Return the items of all subsets with one name for a person and for a camera in all of them."""
    training = with_names(read["train"].items, name) if "train" in read else []
    prefix = common_prefix(str(identity) for _, identity, _ in training if identity != UNKNOWN_IDENTITY)
    if name == MSMT17:
        # The people of its test set are others, counted anew.
        prefix += "test_"
    rows: list[tuple[str, str | None, str, str]] = [
        (path, None if identity == UNKNOWN_IDENTITY else str(identity), str(camera), "train")
        for path, identity, camera in training
    ]
    left_out: dict[str, list[str]] = {}
    for subset, part in read.items():
        for reason, paths in part.left_out.items():
            left_out.setdefault(reason, []).extend(paths)
        if subset != "train":
            rows += [
                (
                    path,
                    _person(identity, prefix, name),
                    name_of_camera(camera, part.camera_prefix, name),
                    subset,
                )
                for path, identity, camera in part.items
            ]
    paths, identities, cameras, splits = _transposed(rows)
    sources = "; ".join(f"{subset} from {part.source}" for subset, part in read.items())
    return ImageTable(
        paths=paths,
        cameras=cameras,
        identities=identities if any(one is not None for one in identities) else None,
        splits=splits,
        left_out=left_out,
        source=f"{name}: {sources}",
    )


def _person(identity: Any, prefix: str, name: str) -> str | None:
    """Return what a person of query or gallery is called in the training set."""
    return None if identity in (None, "", UNKNOWN_IDENTITY) else name_of_camera(identity, prefix, name)


def _transposed(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[], [], [], []]
