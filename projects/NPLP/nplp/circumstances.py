"""The circumstances of a measurement: when, on what, with which versions and of which commit."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["circumstances", "commit", "package_versions", "processor", "usable_cores"]


def circumstances() -> dict[str, str | int | None]:
    """Return the date (UTC), the processor's name and its number of cores."""
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "processor": processor(),
        "cores": os.cpu_count(),
    }


def processor() -> str:
    """Return the processor's name."""
    lines = (
        Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if os.path.exists("/proc/cpuinfo")
        else []
    )
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def package_versions(names: Sequence[str]) -> dict[str, str | None]:
    """Return Python's version and those of the packages, None for one that is not installed."""
    return {"python": platform.python_version(), **{name: _installed_version(name) for name in names}}


def _installed_version(name: str) -> str | None:
    """Return the version of one package, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def commit() -> str | None:
    """Return the commit of the checkout that this package is part of, with "-dirty" after it if files differ.

    None where there is none: an installed package may lie within somebody else's repository.
    """
    if shutil.which("git") is None or _git("ls-files", "--error-unmatch", __file__) is None:
        return None
    return _git("describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")


def _git(*words: str) -> str | None:
    """Return what git says in this file's folder; None if it fails."""
    command = ["git", "-C", str(Path(__file__).resolve().parent), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
