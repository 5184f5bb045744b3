"""What doctor returns: counts and findings, plain enough for JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from nplp.data.doctor.codes import CODES, ERROR

__all__ = [
    "FORMAT",
    "CameraCount",
    "DuplicateCounts",
    "Finding",
    "Findings",
    "IdentityCounts",
    "LeftOut",
    "PublishedCount",
    "Sizes",
    "SplitCount",
    "TrackCounts",
]

FORMAT = 1
"""Raised when a key of the JSON changes its meaning or goes."""

EXAMPLES = 3


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        code: of :data:`nplp.data.doctor.codes.CODES`.
        message: one line with numbers.
        examples: up to three; paths are relative to :attr:`Findings.folder`.
    """

    code: str
    message: str
    examples: tuple[str, ...] = ()

    @classmethod
    def of(cls, code: str, message: str, examples: Sequence[str] = ()) -> "Finding":
        """Return a finding with the first of the examples."""
        return cls(code, message, tuple(examples[:EXAMPLES]))

    @property
    def severity(self) -> str:
        """Return "error", "warning" or "note"."""
        return CODES[self.code].severity

    @property
    def remedy(self) -> str:
        """Return what to do."""
        return CODES[self.code].remedy


@dataclass(frozen=True)
class SplitCount:
    """Counts of train, query or gallery; ``unknown`` images have no identity."""

    split: str
    images: int
    identities: int
    unknown: int
    cameras: int


@dataclass(frozen=True)
class PublishedCount:
    """Published counts of a benchmark's split, or of all of it."""

    split: str
    images: int
    identities: int
    cameras: int


@dataclass(frozen=True)
class CameraCount:
    """Counts of a camera, and its images by split."""

    camera: str
    images: int
    identities: int
    train: int
    query: int
    gallery: int


@dataclass(frozen=True)
class IdentityCounts:
    """How many images and cameras identities have, over the images of known people.

    ``images`` are the least, the quartiles and the most: five numbers.
    """

    identities: int
    images: tuple[float, ...]
    in_one_camera: int
    with_one_image: int


@dataclass(frozen=True)
class TrackCounts:
    """How many tracks there are, how many images are of one, and for how many the time is known."""

    tracks: int
    images: int
    timed: int


@dataclass(frozen=True)
class Sizes:
    """Widths, heights and heights by widths as they are seen, upright.

    Each is least, 5%, 50%, 95% and most. ``modes`` are images by Pillow's name of how they are stored.
    """

    width: tuple[float, ...]
    height: tuple[float, ...]
    aspect: tuple[float, ...]
    smallest: str
    modes: dict[str, int]


@dataclass(frozen=True)
class DuplicateCounts:
    """Images with a copy of the same pixels in groups, and pairs of nearly the same picture."""

    groups: int
    images: int
    near_pairs: int
    near_images: int


@dataclass(frozen=True)
class LeftOut:
    """Files that were ignored for one reason."""

    reason: str
    files: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Findings:
    """All that was seen of a data set.

    Attributes:
        source: where the images come from.
        folder: what the paths of examples are relative to; empty where they are whole.
        images: how many there are.
        decoded: whether each was decoded.
        splits: train, query and gallery, those that are there.
        cameras: by name; empty where none is known.
        identities: ``None`` where none is known.
        tracks: ``None`` where neither tracks nor times are known.
        sizes: ``None`` where nothing was decoded.
        duplicates: ``None`` where none were looked for.
        left_out: files that were ignored, by the reason.
        published: counts of the benchmark, where it is one.
        findings: the gravest first.
    """

    source: str
    folder: str
    images: int
    decoded: bool
    splits: tuple[SplitCount, ...] = ()
    cameras: tuple[CameraCount, ...] = ()
    identities: IdentityCounts | None = None
    tracks: TrackCounts | None = None
    sizes: Sizes | None = None
    duplicates: DuplicateCounts | None = None
    left_out: tuple[LeftOut, ...] = ()
    published: tuple[PublishedCount, ...] = ()
    findings: tuple[Finding, ...] = field(default=())

    @property
    def has_errors(self) -> bool:
        """Return whether training or evaluation would fail or be wrong."""
        return any(finding.severity == ERROR for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Return all of it for JSON, each finding with its severity and remedy."""
        content = asdict(self)
        content["findings"] = [
            {
                "code": finding.code,
                "severity": finding.severity,
                "message": finding.message,
                "examples": list(finding.examples),
                "remedy": finding.remedy,
            }
            for finding in self.findings
        ]
        return {"format": FORMAT, "errors": self.has_errors, **content}
