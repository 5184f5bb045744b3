"""Pages of hits and of groups: one file each, which needs no network."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from tqdm import tqdm

from nplp.clustering import OUTLIER
from nplp.errors import printable
from nplp.report.crops import data_uri, read_crop
from nplp.search.index import Hits

__all__ = ["group_sheet", "hit_sheet"]

PICTURE = (84, 168)
GROUPS_SHOWN, IMAGES_SHOWN = 300, 24
"""Groups on a page, and images of each: 15 MB at most."""


@dataclass(frozen=True)
class Picture:
    """An image on a page: its file, as text, a data URI and a link, and the lines below it."""

    path: str
    alt: str
    lines: list[str]
    query: bool = False

    @property
    def uri(self) -> str:
        """The picture itself; a grey area where the file cannot be read."""
        return data_uri(read_crop(self.path, PICTURE))

    @property
    def link(self) -> str:
        """Where the file is."""
        return Path(os.path.abspath(self.path)).as_uri()


@dataclass(frozen=True)
class Row:
    """A query with its hits, or a group."""

    title: str
    note: str = ""
    pictures: list[Picture] = field(default_factory=list)


def hit_sheet(queries: Sequence[str], hits: Hits, note: str) -> str:
    """Return the page of the hits of some queries.

    Args:
        queries: Q image files.
        hits: of the Q queries.
        note: a line about the index.
    """
    rows = []
    for place, query in enumerate(queries):
        name = printable(Path(query).name)
        pictures = [Picture(query, f"query {name}", ["query", name], query=True)]
        found = zip(hits.paths[place], hits.cameras[place], hits.similarity[place], strict=False)
        for rank, (path, camera, similarity) in enumerate(found, start=1):
            lines = [f"{rank}.  {similarity:.4f}", *_named(path, camera)]
            pictures.append(Picture(path, f"hit {rank}: {', '.join(lines[1:])}", lines))
        rows.append(Row(f"Query {name}", f"{len(pictures) - 1} hits", pictures))
    return _page("Hits", note, rows)


def group_sheet(paths: Sequence[str], cameras: Sequence[str | None] | None, labels: np.ndarray) -> str:
    """Return the page of the largest groups.

    Args:
        paths: N image files.
        cameras: N names.
        labels: [N] int64, the groups, -1 for an image in none.
    """
    order = np.argsort(-np.bincount(labels[labels != OUTLIER]), kind="stable")
    rows = []
    for number in order[:GROUPS_SHOWN]:
        members = np.flatnonzero(labels == number).tolist()
        seen = sorted({str(cameras[place]) for place in members}) if cameras is not None else []
        note = f"{len(members)} images" + (f", cameras {', '.join(map(printable, seen))}" if seen else "")
        if len(members) > IMAGES_SHOWN:
            note += f"; the first {IMAGES_SHOWN} are shown"
        pictures = []
        for place in members[:IMAGES_SHOWN]:
            lines = _named(paths[place], None if cameras is None else cameras[place])
            pictures.append(Picture(paths[place], f"group {number}: {', '.join(lines)}", lines))
        rows.append(Row(f"Group {number}", note, pictures))
    outside = int((labels == OUTLIER).sum())
    note = f"{len(labels):,} images in {len(order):,} groups, {outside:,} in none; the largest group first."
    if len(order) > GROUPS_SHOWN:
        note += f" The first {GROUPS_SHOWN} are shown."
    return _page("Groups", note, rows)


def _named(path: str, camera: str | None) -> list[str]:
    """Return the lines of an image: its camera, where it is known, and its name."""
    return [*([] if camera is None else [f"camera {printable(camera)}"]), printable(Path(path).name)]


def _page(title: str, note: str, rows: list[Row]) -> str:
    environment = Environment(
        loader=PackageLoader("nplp.search"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=True,
    )
    shown = tqdm(rows, desc="Page", unit="row", leave=False, disable=None)
    return environment.get_template("sheet.html.j2").render(title=title, note=printable(note), rows=shown)
