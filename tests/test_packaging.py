"""What an installed package lacks is seen by nobody who works in a checkout."""

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "projects" / "NPLP"
NOT_READ = {"README.md"}
"""For people who look at the sources; no code opens them."""
TOP = ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")
BUILD = "from setuptools.build_meta import build_wheel; import sys; build_wheel(sys.argv[1])"


def package_data():
    """Return the patterns of setup.py by package."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    (call,) = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setup"
    )
    return ast.literal_eval(next(word.value for word in call.keywords if word.arg == "package_data"))


def data_files():
    """Yield package and path in it of every file of the packages that is no module."""
    for package in sorted(path.parent for path in LIBRARY.glob("*/__init__.py")):
        for path in sorted(package.rglob("*")):
            compiled = path.suffix in (".py", ".pyc") or "__pycache__" in path.parts
            if path.is_file() and not compiled and path.name not in NOT_READ:
                yield package.name, path.relative_to(package).as_posix()


def matches(name, pattern):
    """Tell whether setuptools packs a file by a pattern, whose * stands for no folder."""
    path, parts = PurePosixPath(name), PurePosixPath(pattern).parts
    return len(path.parts) == len(parts) and path.match(pattern)


def test_every_file_that_is_read_is_packed():
    found = list(data_files())
    assert ("nplp", "search/templates/sheet.html.j2") in found
    patterns = package_data()
    forgotten = [
        f"{package}/{name}"
        for package, name in found
        if not any(matches(name, pattern) for pattern in patterns.get(package, ()))
    ]
    assert forgotten == []


def test_every_pattern_packs_something():
    found = list(data_files())
    for package, patterns in package_data().items():
        for pattern in patterns:
            assert any(matches(name, pattern) for owner, name in found if owner == package), (
                package,
                pattern,
            )


def test_every_folder_of_modules_is_a_package():
    """find_packages of setuptools leaves out a folder without __init__.py, and all that is in it."""
    folders = {path.parent for path in LIBRARY.rglob("*.py") if path.parent != LIBRARY}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """Two wheels of copies of the sources, one with other modes and times and what an older build left."""
    folder = tmp_path_factory.mktemp("wheels")
    built = []
    for number in (1, 2):
        sources = folder / f"sources{number}"
        read = shutil.ignore_patterns("*.egg-info", "__pycache__")
        for name in ("projects/NPLP", "configs"):
            shutil.copytree(ROOT / name, sources / name, ignore=read)
        for path in (*ROOT.glob("*requirements*.txt"), *(ROOT / name for name in TOP)):
            shutil.copy(path, sources)
        if number == 2:
            left = sources / "build" / "lib" / "nplp_commands" / "configs" / "NPLP"
            left.mkdir(parents=True)
            (left / "renamed.yml").touch()
            for path in sources.rglob("*.*"):
                path.chmod(0o775 if path.is_dir() else 0o600)
                os.utime(path, (1e9, 1e9))
        (folder / f"built{number}").mkdir()
        subprocess.run(
            [sys.executable, "-c", BUILD, str(folder / f"built{number}")],
            cwd=sources,
            env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"},
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=120,
        )
        (wheel,) = (folder / f"built{number}").iterdir()
        built.append(wheel)
    return built


def test_two_builds_are_one_file(wheels):
    first, second = (wheel.read_bytes() for wheel in wheels)
    assert first == second


def test_the_wheel_holds_the_packages_and_all_configurations_and_nothing_else(wheels):
    held = {name for name in zipfile.ZipFile(wheels[0]).namelist() if ".dist-info/" not in name}
    configurations = {
        f"nplp_commands/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "configs").rglob("*.yml")
    }
    packages = {path.name for path in LIBRARY.iterdir() if (path / "__init__.py").is_file()}
    modules = {
        path.relative_to(LIBRARY).as_posix() for name in packages for path in (LIBRARY / name).rglob("*.py")
    }
    data = {f"{package}/{name}" for package, name in data_files()}
    assert len(configurations) > 40
    assert held == configurations | modules | data


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-deploy.txt"])
def test_the_lowest_versions_that_are_promised_are_those_that_are_tested(name):
    lines = (ROOT / "constraints-min.txt").read_text(encoding="utf-8").splitlines()
    tested = dict(line.split("==") for line in lines if not line.startswith("#"))
    required = [
        re.match(r"([\w-]+)>=([\d.]+)", line)
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines()
        if ">=" in line
    ]
    assert len(required) >= 3
    for match in required:
        version = tested[match[1]]
        assert version == match[2] or version.startswith(f"{match[2]}."), match[0]
