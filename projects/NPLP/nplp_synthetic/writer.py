"""Rendering all images of a domain to files, in one process or many."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from types import MappingProxyType

from tqdm import tqdm

from nplp_synthetic.images import DISTRACTOR, JUNK, Record, extra_records, identity_records
from nplp_synthetic.render import jpeg_quality, render_image
from nplp_synthetic.spec import DomainSpec

__all__ = ["MARKET_FOLDERS", "make_market_folders", "market_name", "write_images"]

MARKET_FOLDERS: Mapping[str, str] = MappingProxyType(
    {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
)
"""The folder of each split in the layouts of Market-1501 and DukeMTMC-reID."""

# Identities in a chunk of work; as many images of distractors or junk as 16 identities may have.
_IDENTITIES, _EXTRAS = 16, 256

Namer = Callable[[Record], str]
# (kind, start, stop): identities where the kind is None, else indices of distractors or junk.
_Chunk = tuple[int | None, int, int]


def make_market_folders(folder: Path) -> None:
    """Make the three folders that Market-1501 and DukeMTMC-reID share, where they are missing."""
    for name in MARKET_FOLDERS.values():
        (folder / name).mkdir(parents=True, exist_ok=True)


def market_name(record: Record) -> str:
    """Return a record's path in the layout of Market-1501, such as ``query/0007_c2s1_000151_00.jpg``."""
    identity = str(record.identity) if record.identity == JUNK else f"{record.identity:04d}"
    name = f"{identity}_c{record.camera}s{record.sequence}_{record.frame:06d}_{record.box:02d}.jpg"
    return f"{MARKET_FOLDERS[record.split]}/{name}"


def write_images(
    spec: DomainSpec, root: Path, namer: Namer, progress: bool = False, workers: int | None = None
) -> dict[str, int]:
    """Render every image of a domain to the path that ``namer`` gives it.

    Memory does not grow with the number of images; the files do not depend on the number of processes.

    Args:
        spec: The domain.
        root: Folder that the paths are relative to; the folders in them must exist.
        namer: A function at the top level of a module, as it is sent to other processes. Records for
            which it returns an empty string are left out.
        progress: Whether to show a progress bar, on a terminal.
        workers: Number of processes; the machine's number of processors where None.

    Returns:
        Number of images by split.
    """
    chunks = list(_chunks(spec))
    counts = {"train": 0, "query": 0, "gallery": 0}
    with contextlib.ExitStack() as stack:
        results = _start(stack, partial(_write_chunk, spec, root, namer), chunks, workers)
        # None silences the bar wherever the output is not a terminal.
        silent = None if progress else True
        bar = stack.enter_context(tqdm(total=len(chunks), desc=f"rendering {spec.name}", disable=silent))
        for part in results:
            bar.update()
            for split, count in part.items():
                counts[split] += count
    return counts


def _start(
    stack: contextlib.ExitStack,
    work: Callable[[_Chunk], dict[str, int]],
    chunks: list[_Chunk],
    workers: int | None,
) -> Iterator[dict[str, int]]:
    """Return the results of ``work`` on each chunk as they come; ``stack`` ends the processes."""
    processes = _processes(workers, len(chunks))
    if processes == 1:
        return map(work, chunks)
    # Forked children need not import the caller's program again, which may lack a main guard.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    pool = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context(method))
    # After an error or an interrupt, what has not begun is dropped.
    stack.callback(pool.shutdown, cancel_futures=True)
    with warnings.catch_warnings():
        # Python 3.12 warns of forking beside threads; the children touch no lock of theirs.
        warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
        return pool.map(work, chunks)


def _chunks(spec: DomainSpec) -> Iterator[_Chunk]:
    """Yield the parts into which the work is divided, whatever the number of processes."""
    for start in range(1, spec.identities + 1, _IDENTITIES):
        yield None, start, min(start + _IDENTITIES, spec.identities + 1)
    for kind, total in ((DISTRACTOR, spec.distractors), (JUNK, spec.junk)):
        for start in range(0, total, _EXTRAS):
            yield kind, start, min(start + _EXTRAS, total)


def _write_chunk(spec: DomainSpec, root: Path, namer: Namer, chunk: _Chunk) -> dict[str, int]:
    """Render and write one chunk; return the number of its images by split."""
    kind, start, stop = chunk
    counts: dict[str, int] = {}
    groups = (
        (identity_records(spec, identity) for identity in range(start, stop))
        if kind is None
        else (extra_records(spec, kind, range(start, stop)),)
    )
    for records in groups:
        for record in records:
            name = namer(record)
            if name:
                render_image(spec, record).save(root / name, "JPEG", quality=jpeg_quality(spec, record))
                counts[record.split] = counts.get(record.split, 0) + 1
    return counts


def _processes(workers: int | None, chunks: int) -> int:
    """Return how many processes to use: one where a daemon asks, which may not have children."""
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1 or None, got {workers}")
    if multiprocessing.current_process().daemon:
        return 1
    return max(1, min(workers or os.cpu_count() or 1, chunks))
