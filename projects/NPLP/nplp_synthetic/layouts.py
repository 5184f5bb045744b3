"""The same people in the folder layouts of three benchmarks, as the toolbox's data sets read them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from nplp_synthetic.images import DISTRACTOR, JUNK, Record, identity_records
from nplp_synthetic.spec import DomainSpec
from nplp_synthetic.writer import MARKET_FOLDERS, make_market_folders, market_name, write_images

__all__ = ["write_duke", "write_market", "write_msmt17"]

# What the published data have, and the toolbox's own readers accept.
_MARKET_CAMERAS, _MARKET_IDENTITIES, _DUKE_CAMERAS = 6, 1501, 8
# Every tenth identity's images go to MSMT17's validation list.
_VALIDATION_PERIOD = 10


def write_market(spec: DomainSpec, root: Path, workers: int | None = 1) -> Path:
    """Write a domain as Market-1501.

    Args:
        spec: The domain; at most 6 cameras and 1,501 identities.
        root: Folder in which ``Market-1501-v15.09.15`` is made.
        workers: Number of processes; the machine's number of processors where None.

    Returns:
        The folder ``root/Market-1501-v15.09.15``.

    Raises:
        ValueError: If the domain has more cameras or identities than the layout holds.
    """
    _check_cameras(spec, "Market-1501", _MARKET_CAMERAS)
    if spec.identities > _MARKET_IDENTITIES:
        raise ValueError(
            f"train_identities + test_identities must be at most {_MARKET_IDENTITIES} for the "
            f"Market-1501 layout, got {spec.identities}"
        )
    folder = Path(root) / "Market-1501-v15.09.15"
    make_market_folders(folder)
    write_images(spec, folder, market_name, workers=workers)
    return folder


def write_duke(spec: DomainSpec, root: Path, workers: int | None = 1) -> Path:
    """Write a domain as DukeMTMC-reID, which has no junk; each distractor is a person of its own.

    Args:
        spec: The domain; at most 8 cameras.
        root: Folder in which ``DukeMTMC-reID`` is made.
        workers: Number of processes; the machine's number of processors where None.

    Returns:
        The folder ``root/DukeMTMC-reID``.

    Raises:
        ValueError: If the domain has more cameras than the layout holds.
    """
    _check_cameras(spec, "DukeMTMC-reID", _DUKE_CAMERAS)
    folder = Path(root) / "DukeMTMC-reID"
    make_market_folders(folder)
    write_images(spec, folder, partial(_duke_name, spec.identities), workers=workers)
    return folder


def write_msmt17(spec: DomainSpec, root: Path, workers: int | None = 1) -> Path:
    """Write a domain as MSMT17, version 1, which has neither distractors nor junk.

    Identities count from 0 in the training and in the test set; every tenth training identity is in
    ``list_val.txt`` instead of ``list_train.txt``.

    Args:
        spec: The domain.
        root: Folder in which ``MSMT17_V1`` is made.
        workers: Number of processes; the machine's number of processors where None.

    Returns:
        The folder ``root/MSMT17_V1``.
    """
    folder = Path(root) / "MSMT17_V1"
    lists: dict[str, list[str]] = {"train": [], "val": [], "query": [], "gallery": []}
    for identity in range(1, spec.identities + 1):
        records = identity_records(spec, identity)
        for record in records:
            top, number, path = _msmt17_place(spec.train_identities, record)
            held_out = record.split == "train" and number % _VALIDATION_PERIOD == _VALIDATION_PERIOD - 1
            lists["val" if held_out else record.split].append(f"{path} {number}\n")
        (folder / top / f"{number:04d}").mkdir(parents=True, exist_ok=True)
    for name, lines in lists.items():
        (folder / f"list_{name}.txt").write_text("".join(lines), encoding="utf-8")
    write_images(spec, folder, partial(_msmt17_name, spec.train_identities), workers=workers)
    return folder


def _check_cameras(spec: DomainSpec, layout: str, most: int) -> None:
    """Raise ValueError if the domain has more cameras than the layout holds."""
    if spec.cameras > most:
        raise ValueError(f"cameras must be at most {most} for the {layout} layout, got {spec.cameras}")


def _duke_name(identities: int, record: Record) -> str:
    """Return a record's path in DukeMTMC-reID, such as ``query/0005_c2_f0046985.jpg``."""
    if record.identity == JUNK:
        return ""
    # A distractor's frame is 25 times its number, which makes an identity that nobody else has.
    identity = identities + record.frame // 25 if record.identity == DISTRACTOR else record.identity
    return f"{MARKET_FOLDERS[record.split]}/{identity:04d}_c{record.camera}_f{record.frame:07d}.jpg"


def _msmt17_place(train_identities: int, record: Record) -> tuple[str, int, str]:
    """Return a record's folder, its identity there and its path in that folder."""
    top = "train" if record.split == "train" else "test"
    number = record.identity - 1 - (0 if record.split == "train" else train_identities)
    place = f"{number:04d}_{record.sequence - 1:03d}_{record.camera:02d}"
    return top, number, f"{number:04d}/{place}_0303morning_{record.frame:04d}_{record.box}.jpg"


def _msmt17_name(train_identities: int, record: Record) -> str:
    """Return a record's path in MSMT17, or an empty string for what MSMT17 does not have."""
    if record.identity in (DISTRACTOR, JUNK):
        return ""
    top, _, path = _msmt17_place(train_identities, record)
    return f"{top}/{path}"
