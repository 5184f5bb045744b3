"""The findings as text for a terminal."""

from collections.abc import Sequence

from tabulate import tabulate

from nplp.data.doctor.codes import SEVERITIES
from nplp.data.doctor.findings import CameraCount, Findings
from nplp.data.items import counted
from nplp.errors import printable

__all__ = ["as_text"]

CAMERAS = 20
"""Cameras that have a row each; of the others the sum is shown."""
SPREAD = ("least", "5%", "median", "95%", "most")
FIXED = 45
"""Columns of a terminal that the severity, the code and the gaps take."""
NARROWEST = 40


def as_text(findings: Findings, width: int) -> str:
    """Return the counts, and then what was found, the gravest first.

    Args:
        findings: of :func:`nplp.data.doctor.examine`.
        width: of the terminal, in columns.
    """
    parts = [
        findings.source,
        _splits(findings),
        _cameras(findings.cameras),
        _measures(findings),
        _left_out(findings),
        _found(findings, width),
        _verdict(findings),
    ]
    return printable("\n\n".join(filter(None, parts)) + "\n")


def _table(rows: Sequence[Sequence[object]], headers: Sequence[str], last: int | None = None) -> str:
    """Return a table whose last column is at most ``last`` wide."""
    shown = [[f"{cell:,}" if isinstance(cell, int) else cell for cell in row] for row in rows]
    align = ["right" if row and isinstance(row, int) else "left" for row in (rows[0] if rows else ())]
    widths = [*[None] * (len(headers) - 1), last]
    return tabulate(
        shown, headers=headers, tablefmt="simple", disable_numparse=True, colalign=align, maxcolwidths=widths
    )


def _splits(findings: Findings) -> str:
    published = {count.split: count for count in findings.published}
    rows = [[one.split, one.images, one.identities, one.unknown, one.cameras] for one in findings.splits]
    if not rows:
        return ""
    headers = ["split", "images", "identities", "of nobody known", "cameras"]
    if published:
        headers.append("published: images, identities, cameras")
        for row in rows:
            row.append(_published(published.pop(str(row[0]), None)))
        rows += [[count.split, "", "", "", "", _published(count)] for count in published.values()]
    return _table(rows, headers)


def _published(count: object) -> str:
    values = (getattr(count, name, None) for name in ("images", "identities", "cameras"))
    return ", ".join(f"{value:,}" for value in values if value is not None)


def _cameras(cameras: Sequence[CameraCount]) -> str:
    if not cameras:
        return ""
    rows: list[list[object]] = [
        [one.camera, one.images, one.identities, one.train, one.query, one.gallery]
        for one in cameras[:CAMERAS]
    ]
    rest = cameras[CAMERAS:]
    if rest:
        sums = [sum(getattr(one, name) for one in rest) for name in ("images", "train", "query", "gallery")]
        rows.append([f"{len(rest):,} others", sums[0], "", *sums[1:]])
    return _table(rows, ["camera", "images", "identities", "train", "query", "gallery"])


def _measures(findings: Findings) -> str:
    """Return sizes, kinds, identities, tracks and copies, a line each."""
    rows = []
    if people := findings.identities:
        quartiles = ", ".join(f"{value:g}" for value in people.images)
        rows.append(("images an identity", f"{quartiles} (least, quartiles, most)"))
    if tracks := findings.tracks:
        text = f"{counted(tracks.tracks, 'track', 'tracks')} of {counted(tracks.images, 'image', 'images')}"
        rows.append(("tracks", f"{text}; the time is known of {tracks.timed:,}"))
    if sizes := findings.sizes:
        for name, values in (
            ("width", sizes.width),
            ("height", sizes.height),
            ("height by width", sizes.aspect),
        ):
            told = (f"{label} {value:g}" for label, value in zip(SPREAD, values, strict=True))
            rows.append((name, ", ".join(told)))
        rows.append(("smallest", sizes.smallest))
        rows.append(("kinds", ", ".join(f"{mode} {count:,}" for mode, count in sizes.modes.items())))
    if copies := findings.duplicates:
        rows.append(
            ("same pixels", f"{copies.images:,} images in {counted(copies.groups, 'group', 'groups')}")
        )
        near = f"{copies.near_images:,} images in {counted(copies.near_pairs, 'pair', 'pairs')}"
        rows.append(("nearly the same", near))
    return tabulate(rows, tablefmt="plain", disable_numparse=True) if rows else ""


def _left_out(findings: Findings) -> str:
    if not findings.left_out:
        return ""
    rows = [[one.files, one.reason, ", ".join(one.examples)] for one in findings.left_out]
    return _table(rows, ["files", "ignored", "such as"])


def _found(findings: Findings, width: int) -> str:
    rows = []
    for one in findings.findings:
        examples = f": {', '.join(one.examples)}" if one.examples else ""
        rows.append([one.severity, one.code, f"{one.message}{examples}\n-> {one.remedy}"])
    if not rows:
        return ""
    room = max(width - FIXED, NARROWEST)
    return _table(rows, ["", "code", "what was found, and what to do"], room)


def _verdict(findings: Findings) -> str:
    counts = [sum(one.severity == kind for one in findings.findings) for kind in SEVERITIES]
    return ", ".join(counted(count, kind, f"{kind}s") for count, kind in zip(counts, SEVERITIES, strict=True))
