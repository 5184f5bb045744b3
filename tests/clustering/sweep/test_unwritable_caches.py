"""Kernels where nothing can be kept: they run, with one line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import nplp
from nplp.clustering.sweep import compiling

SCRIPT = """
import logging
logging.basicConfig(format="LOG %(message)s")
{before}
import numpy as np
from nplp.clustering import estimate_pseudo_labels
from nplp.clustering.dbscan import _count_ends
{after}
degree = np.ones(3, dtype=np.int64)
_count_ends(np.array([0], dtype=np.int32), np.array([1], dtype=np.int32), degree)
_count_ends(np.array([0]), np.array([1]), degree)
print(degree.tolist())
"""
NOWHERE = """
from numba.core import caching
for locator in caching.CacheImpl._locator_classes + caching.CodeLibraryCacheImpl._locator_classes:
    locator.ensure_cache_path = lambda self: (_ for _ in ()).throw(OSError("read-only"))
"""
FULL = """
import errno
from numba.core.caching import IndexDataCacheFile
def refuse(self, path):
    raise OSError(errno.ENOSPC, "No space left on device")
IndexDataCacheFile._open_for_write = refuse
"""


def run(script: str, folder: Path, **environment: str) -> tuple[str, list[str]]:
    """Run a copy of the package without kept kernels; return what is printed and the lines of the log."""
    package = Path(nplp.__file__).parent
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(package / "clustering", folder / "nplp" / "clustering", ignore=ignored)
    # Without the toolbox, which the stage does not need.
    (folder / "nplp" / "__init__.py").touch()
    for module in ("errors.py", "memory.py", "products.py"):
        shutil.copy(package / module, folder / "nplp")
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip(), [line for line in done.stderr.splitlines() if "kernels" in line]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (NOWHERE, "", "neither the package's folder nor a cache can be written"),
        ("", FULL, "No space left on device"),
    ],
    ids=["no folder", "a full disk"],
)
def test_kernels_run_where_nothing_can_be_kept(tmp_path: Path, before: str, after: str, said: str) -> None:
    script = SCRIPT.format(before=before, after=after)
    printed, lines = run(script, tmp_path, NUMBA_CACHE_DIR="")
    assert printed == "[3, 3, 1]"
    assert len(lines) == 1
    assert said in lines[0]
    assert "NUMBA_CACHE_DIR" in lines[0]


@pytest.mark.parametrize("damage", [b"", pytest.param(b"\x80\x04", marks=pytest.mark.long)])
def test_kept_kernels_that_are_damaged_are_compiled_again(tmp_path: Path, damage: bytes) -> None:
    cache = tmp_path / "cache"
    script = SCRIPT.format(before="", after="")
    assert run(script, tmp_path, NUMBA_CACHE_DIR=str(cache)) == ("[3, 3, 1]", [])
    kept = [*cache.rglob("*.nbi"), *cache.rglob("*.nbc")]
    assert len(kept) >= 3
    for path in kept:
        path.write_bytes(damage)
    shutil.rmtree(tmp_path / "nplp")
    printed, lines = run(script, tmp_path, NUMBA_CACHE_DIR=str(cache))
    assert printed == "[3, 3, 1]"
    assert len(lines) <= 1


def test_there_is_one_way_to_compile_a_kernel() -> None:
    folder = Path(compiling.__file__).parent
    users = [path.name for path in folder.glob("*.py") if "numba" in path.read_text(encoding="utf-8")]
    assert users == ["compiling.py"]
