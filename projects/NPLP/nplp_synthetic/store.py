"""Domains on disk: rendered once, in the layout of Market-1501, and found again."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from pathlib import Path

from nplp_synthetic.spec import GENERATOR_VERSION, LATER_SETTINGS, DomainSpec
from nplp_synthetic.writer import make_market_folders, market_name, write_images

__all__ = ["DomainError", "default_cache_root", "ensure_domain", "render_domain"]

_MANIFEST = "manifest.json"


class DomainError(ValueError):
    """A domain that cannot be kept where it should be; the message says why and what to do."""


def default_cache_root() -> Path:
    """Return the folder for rendered domains: ``NPLP_CACHE`` from the environment, else ~/.cache/nplp.

    Raises:
        DomainError: If there is no home folder to find it in, as for a user of a container without a name.
    """
    configured = os.environ.get("NPLP_CACHE") or "~/.cache/nplp"
    try:
        return Path(configured).expanduser()
    except RuntimeError as error:
        raise DomainError(
            f"the folder for synthetic domains is {configured}, and no such home folder is known; "
            "name another one with NPLP_CACHE"
        ) from error


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
        DomainError: If the folder cannot be written or a worker dies.
    """
    folder = Path(cache_root) / f"{spec.name}-{_digest(spec)}"
    if (folder / _MANIFEST).is_file():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _lock(folder.parent / f".{folder.name}.lock") as alone:
            if not (folder / _MANIFEST).is_file():
                _render_atomically(spec, folder, progress, workers, alone)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DomainError(
            f"cannot write the synthetic domain to {folder}: {reason}; "
            "make room there or choose another folder, for instance with NPLP_CACHE"
        ) from error
    except BrokenExecutor as error:
        raise DomainError(
            f"a process that rendered the synthetic domain into {folder} was killed, "
            "perhaps for want of memory; use fewer workers"
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
    make_market_folders(Path(folder))
    counts = write_images(spec, Path(folder), market_name, progress, workers)
    manifest = {"generator_version": GENERATOR_VERSION, "spec": dataclasses.asdict(spec), "images": counts}
    (Path(folder) / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return counts


def _digest(spec: DomainSpec) -> str:
    """Return ten hexadecimal digits that change with the specification and the generator."""
    content = dataclasses.asdict(spec)
    # Settings that came later and are not used leave the folders of before valid.
    content["style"] = {
        key: value for key, value in content["style"].items() if value or key not in LATER_SETTINGS
    }
    text = json.dumps([GENERATOR_VERSION, content], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _render_atomically(
    spec: DomainSpec, folder: Path, progress: bool, workers: int | None, alone: bool
) -> None:
    """Render into a temporary neighbour of ``folder`` and rename it; ``alone`` under the lock."""
    prefix = f".{folder.name}-part-"
    if alone:
        # What an interrupted run left behind is nobody's.
        for stale in folder.parent.glob(f"{prefix}*"):
            shutil.rmtree(stale, ignore_errors=True)
    with tempfile.TemporaryDirectory(
        prefix=prefix, dir=folder.parent, ignore_cleanup_errors=True
    ) as temporary:
        part = Path(temporary) / "domain"
        render_domain(spec, part, progress, workers)
        if folder.exists() and not (folder / _MANIFEST).is_file():
            shutil.rmtree(folder)
        try:
            part.rename(folder)
        except OSError:
            # Without a lock, another process may have been faster; its files are the same.
            if not (folder / _MANIFEST).is_file():
                raise


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """Hold an exclusive lock on a file while the block runs; yield False where there are no such locks."""
    with path.open("w") as handle:
        try:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX)
        except (ImportError, OSError):
            yield False
        else:
            yield True
