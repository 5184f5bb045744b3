"""Writing a domain to disk, once, in the layout of Market-1501."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from tqdm import tqdm

from nplp.data.synthetic.records import DISTRACTOR, JUNK, Record, extra_records, identity_records
from nplp.data.synthetic.render import jpeg_quality, render_image
from nplp.data.synthetic.spec import GENERATOR_VERSION, DomainSpec
from nplp.errors import UserError

__all__ = [
    "MARKET_FOLDERS",
    "default_cache_root",
    "ensure_domain",
    "market_name",
    "render_domain",
    "write_images",
]

MARKET_FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
_MANIFEST = "manifest.json"
_CHUNK = 16

Namer = Callable[[Record], str]


def default_cache_root() -> Path:
    """Return the folder for rendered domains: ``NPLP_CACHE`` from the environment, else ~/.cache/nplp."""
    configured = os.environ.get("NPLP_CACHE")
    return Path(configured).expanduser() if configured else Path.home() / ".cache" / "nplp"


def market_name(record: Record) -> str:
    """Return a record's path in the layout of Market-1501, such as ``query/0007_c2s1_000151_00.jpg``."""
    identity = str(record.identity) if record.identity == JUNK else f"{record.identity:04d}"
    name = f"{identity}_c{record.camera}s{record.sequence}_{record.frame:06d}_{record.box:02d}.jpg"
    return f"{MARKET_FOLDERS[record.split]}/{name}"


def ensure_domain(
    spec: DomainSpec, cache_root: Path, progress: bool = False, workers: int | None = None
) -> Path:
    """Return the folder of a domain, rendering it if it is not there yet.

    The folder is built under another name and renamed when complete, so a half-written one is never
    used; of several processes that ask at once, one renders and the others wait.

    Args:
        spec: The domain.
        cache_root: Folder in which domains are kept; made if missing.
        progress: Whether to show a progress bar, on a terminal.
        workers: Number of processes; the machine's number of processors where None.

    Returns:
        ``cache_root/<name>-<hash of the specification and the generator's version>`` with
        ``bounding_box_train``, ``query``, ``bounding_box_test`` and ``manifest.json``.

    Raises:
        UserError: If the folder cannot be written.
    """
    folder = Path(cache_root) / f"{spec.name}-{_digest(spec)}"
    if (folder / _MANIFEST).is_file():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _lock(folder.parent / f".{folder.name}.lock"):
            if not (folder / _MANIFEST).is_file():
                _render_atomically(spec, folder, progress, workers)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"cannot write the synthetic domain to {folder}: {reason}; "
            "free the folder or set NPLP_CACHE to one that can be written"
        ) from error
    return folder


def render_domain(
    spec: DomainSpec, folder: Path, progress: bool = False, workers: int | None = None
) -> dict[str, int]:
    """Render a domain into a folder in the layout of Market-1501, with a manifest.

    Args:
        spec: The domain.
        folder: Where; made if missing.
        progress: Whether to show a progress bar, on a terminal.
        workers: Number of processes; the machine's number of processors where None.

    Returns:
        Number of images by split.

    Raises:
        OSError: If the folder cannot be written.
    """
    for name in MARKET_FOLDERS.values():
        (Path(folder) / name).mkdir(parents=True, exist_ok=True)
    counts = write_images(spec, Path(folder), market_name, progress, workers)
    manifest = {"generator_version": GENERATOR_VERSION, "spec": dataclasses.asdict(spec), "images": counts}
    (Path(folder) / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return counts


def write_images(
    spec: DomainSpec, root: Path, namer: Namer, progress: bool = False, workers: int | None = None
) -> dict[str, int]:
    """Render every image of a domain to the path that ``namer`` gives it.

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
    work = partial(_write_chunk, spec, root, namer)
    with contextlib.ExitStack() as stack:
        processes = _processes(workers, len(chunks))
        if processes == 1:
            results: Iterator[dict[str, int]] = map(work, chunks)
        else:
            method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
            context = multiprocessing.get_context(method)
            results = stack.enter_context(ProcessPoolExecutor(processes, mp_context=context)).map(
                work, chunks
            )
        # None silences the bar wherever the output is not a terminal.
        bar = stack.enter_context(
            tqdm(total=len(chunks), desc=f"rendering {spec.name}", disable=None if progress else True)
        )
        for part in results:
            bar.update()
            for split, count in part.items():
                counts[split] += count
    return counts


def _chunks(spec: DomainSpec) -> Iterator[tuple[int | None, int, int]]:
    """Yield (kind, start, stop): ranges of identities where kind is None, else of distractors or junk."""
    for start in range(1, spec.identities + 1, _CHUNK):
        yield None, start, min(start + _CHUNK, spec.identities + 1)
    for kind, total in ((DISTRACTOR, spec.distractors), (JUNK, spec.junk)):
        for start in range(0, total, 16 * _CHUNK):
            yield kind, start, min(start + 16 * _CHUNK, total)


def _write_chunk(
    spec: DomainSpec, root: Path, namer: Namer, chunk: tuple[int | None, int, int]
) -> dict[str, int]:
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


def _digest(spec: DomainSpec) -> str:
    """Return ten hexadecimal digits that change with the specification and the generator."""
    text = json.dumps([GENERATOR_VERSION, dataclasses.asdict(spec)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _render_atomically(spec: DomainSpec, folder: Path, progress: bool, workers: int | None) -> None:
    """Render into a temporary neighbour of ``folder`` and rename it."""
    prefix = f".{folder.name}-part-"
    # The lock is held, so what an interrupted run left behind is nobody's.
    for stale in folder.parent.glob(f"{prefix}*"):
        shutil.rmtree(stale, ignore_errors=True)
    with tempfile.TemporaryDirectory(
        prefix=prefix, dir=folder.parent, ignore_cleanup_errors=True
    ) as temporary:
        part = Path(temporary) / "domain"
        render_domain(spec, part, progress, workers)
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file while the block runs, where the system has such locks."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
