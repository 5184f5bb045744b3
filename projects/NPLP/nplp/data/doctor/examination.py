"""The examination of a data set, from its table of images to what is found."""

import os
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec

from nplp.data.benchmarks import HIDDEN, JUNK, NO_IMAGE
from nplp.data.doctor.cameras import check_cameras
from nplp.data.doctor.codes import CODES
from nplp.data.doctor.counting import count_cameras, count_identities, count_splits, count_tracks, measure
from nplp.data.doctor.findings import EXAMPLES, DuplicateCounts, Finding, Findings, LeftOut
from nplp.data.doctor.images import check_copies, check_images
from nplp.data.doctor.labels import Labels
from nplp.data.doctor.look import Looks, look_at_files, look_at_images
from nplp.data.doctor.people import check_people
from nplp.data.doctor.published import PUBLISHED, compare
from nplp.data.image_table import ImageTable
from nplp.errors import UserError

__all__ = ["examine"]

ORDINARY = (HIDDEN, NO_IMAGE, JUNK)
"""Reasons for which files are ignored that are no image of the data set."""
ORDER = list(CODES)


def examine(
    table: ImageTable,
    name: str = "",
    more: Sequence[Finding] = (),
    decode: bool = True,
    duplicates: bool = True,
    workers: int | None = None,
    progress: bool = True,
) -> Findings:
    """Look at a data set and return what is found.

    Each image is decoded once, in threads. Time is linear in the images but for near duplicates, whose search
    compares 32 bytes of each pair. Memory is some hundred bytes an image beside the table's own, and 200 MB.

    Args:
        table: N images.
        name: of a benchmark whose counts are published; empty for another data set.
        more: findings made when the data were read.
        decode: whether to look into the images.
        duplicates: whether to look for pictures that are there more than once.
        workers: decoding threads; ``None``: one a core.
        progress: whether there may be progress bars.

    Raises:
        UserError: if duplicates are to be found and faiss is not installed.
    """
    if decode and duplicates and find_spec("faiss") is None:
        raise UserError(
            "faiss finds near duplicates and is not installed: install faiss-cpu, or give --no-duplicates"
        )
    labels = Labels.of(table)
    folder, shown = _relative(table.paths)
    if decode:
        looks = look_at_images(table.paths, duplicates, workers, progress)
    else:
        looks = look_at_files(table.paths)
    findings = [
        *more,
        *(
            []
            if len(table)
            else [Finding.of("no-images", f"no image is left of {table.source or 'the data'}")]
        ),
        *_left_out_findings(table, folder),
        *check_images(looks, shown),
        *check_people(labels, shown, table.splits is not None),
        *check_cameras(labels),
        *compare(name, labels),
    ]
    seen = Findings(
        source=table.source,
        folder=folder,
        images=len(table),
        decoded=decode,
        splits=count_splits(labels),
        cameras=count_cameras(labels),
        identities=count_identities(labels),
        tracks=count_tracks(table, labels),
        sizes=measure(looks, shown),
        left_out=tuple(
            LeftOut(reason, len(paths), tuple(_short(path, folder) for path in paths[:EXAMPLES]))
            for reason, paths in table.left_out.items()
        ),
        published=PUBLISHED.get(name, ()),
    )
    if looks.hashed:
        counts, found = _copies(looks, labels, shown, progress)
        seen, findings = replace(seen, duplicates=counts), findings + found
    return replace(seen, findings=tuple(sorted(findings, key=lambda one: ORDER.index(one.code))))


def _copies(
    looks: Looks, labels: Labels, shown: Sequence[str], progress: bool
) -> tuple[DuplicateCounts, list[Finding]]:
    # This module needs faiss, which is not installed everywhere.
    from nplp.data.doctor.duplicates import equal_pictures, near_pictures

    equal, near = equal_pictures(looks, labels), near_pictures(looks, labels, progress=progress)
    counts = DuplicateCounts(
        groups=equal.total,
        images=int(equal.any_kind.sum()),
        near_pairs=near.total,
        near_images=int(near.any_kind.sum()),
    )
    return counts, check_copies(equal, shown, near=False) + check_copies(near, shown, near=True)


def _left_out_findings(table: ImageTable, folder: str) -> list[Finding]:
    findings = []
    for reason, paths in table.left_out.items():
        code = "ignored-files" if reason in ORDINARY else "ignored-images"
        if not os.path.lexists(paths[0]):
            code = "missing-files"
        files = "file was ignored" if len(paths) == 1 else "files were ignored"
        examples = [_short(path, folder) for path in paths[:EXAMPLES]]
        findings.append(Finding.of(code, f"{len(paths):,} {files}: {reason}", examples))
    return findings


def _relative(paths: Sequence[str]) -> tuple[str, list[str]]:
    """Return the folder that all images are in, and their paths from there; empty where there is none."""
    try:
        folder = os.path.commonpath([os.path.dirname(path) for path in paths])
    except ValueError:
        # There is no path, or some are absolute and others not.
        folder = ""
    return folder, [_short(path, folder) for path in paths]


def _short(path: str, folder: str) -> str:
    prefix = folder.rstrip(os.sep) + os.sep
    return path[len(prefix) :] if folder and path.startswith(prefix) else path
