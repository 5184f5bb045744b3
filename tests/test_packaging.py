"""What an installed package lacks is seen by nobody who works in a checkout."""

import ast
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "projects" / "NPLP"
NOT_READ = {"README.md"}
"""For people who look at the sources; no code opens them."""


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
