"""The toolbox's Cython rankings, built outside site-packages by this interpreter, or not at all."""

import functools
import hashlib
import importlib.util
import logging
import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType

import numpy as np

from nplp.distributed.programs import fault_of_program
from nplp.evaluation import cython_setup

__all__ = ["BUILD_SECONDS", "cache_folder", "compiled_rankings"]

logger = logging.getLogger(__name__)

BUILD_SECONDS = 300
"""How long a build may take before it is given up."""


class _BuildError(Exception):
    """Why there are no compiled rankings, in one line."""


@functools.cache
def compiled_rankings(sources: Path) -> dict[str, ModuleType]:
    """Return the modules ``rank_cy`` and ``roc_cy`` built from ``sources``, or nothing.

    They are built once, in a process of their own, into a folder named by everything that they depend
    on, and loaded from there afterwards. Processes that build at the same time do not meet: each builds
    in a folder of its own and moves it into place whole. The answer is remembered.

    Args:
        sources: the folder of ``rank_cy.pyx`` and ``roc_cy.pyx``; nothing is written there.

    Returns:
        Modules by name; empty if they cannot be built or loaded, after one line in the log that says why.
    """
    try:
        folder = _built_folder(sources)
        return {name: _load(name, folder) for name in cython_setup.MODULES}
    except (_BuildError, OSError, ImportError) as error:
        logger.info("ranking with numpy, as the toolbox's Cython rankings are not available: %s", error)
        return {}


def cache_folder() -> Path:
    """Return the user's folder for built rankings: in ``XDG_CACHE_HOME``, or ``~/.cache``.

    Raises:
        OSError: If no home folder is known.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(cache).expanduser() / "nplp" / "rankings"
    except RuntimeError as error:
        raise OSError(f"no home folder is known for {cache}; XDG_CACHE_HOME may name one") from error


def _built_folder(sources: Path) -> Path:
    """Return the folder with the built modules, which are built if they are not there yet."""
    texts = [(sources / f"{name}.pyx").read_bytes() for name in cython_setup.MODULES]
    depends_on = (sys.version, sysconfig.get_config_var("EXT_SUFFIX"), np.__version__, sys.executable)
    key = hashlib.sha256(b"\0".join([*texts, repr(depends_on).encode()])).hexdigest()[:16]
    folder = cache_folder() / key
    if folder.is_dir():
        return folder
    for package in ("Cython", "setuptools"):
        if importlib.util.find_spec(package) is None:
            raise _BuildError(f"{package} is not installed")
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=folder.parent, prefix="building-", ignore_cleanup_errors=True
    ) as place:
        _build(sources, Path(place))
        finished = Path(place) / "finished"
        finished.mkdir()
        for library in Path(place).glob(f"*{sysconfig.get_config_var('EXT_SUFFIX')}"):
            library.rename(finished / library.name)
        try:
            finished.rename(folder)
        except OSError:
            # Another process was faster; its build is as good.
            if not folder.is_dir():
                raise
    return folder


def _build(sources: Path, place: Path) -> None:
    """Build copies of ``sources`` in ``place``; raise _BuildError if that fails or takes too long."""
    for name in cython_setup.MODULES:
        shutil.copyfile(sources / f"{name}.pyx", place / f"{name}.pyx")
    shutil.copyfile(cython_setup.__file__, place / "setup.py")
    logger.info("building the toolbox's Cython rankings, once for this environment")
    if fault := fault_of_program(["setup.py"], BUILD_SECONDS, place):
        raise _BuildError(f"the build {fault}")


def _load(name: str, folder: Path) -> ModuleType:
    path = folder / f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}"
    spec = importlib.util.spec_from_file_location(f"fastreid.evaluation.rank_cylib.{name}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no extension module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
