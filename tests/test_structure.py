"""The arrows of the house: which package may import which, read from the imports themselves."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "projects" / "NPLP"
STANDARD = set(__import__("sys").stdlib_module_names)

FLOORS = (
    ("nplp_experiments",),
    ("nplp_commands",),
    ("nplp.adapt",),
    ("nplp.search",),
    ("nplp.export", "nplp.report"),
    ("nplp.engine",),
    ("nplp.methods",),
    ("nplp.modeling", "nplp.data"),
    ("nplp.evaluation",),
    ("nplp.host",),
    ("nplp.config",),
    ("nplp.weights",),
    ("nplp.files",),
    ("nplp.distributed",),
    ("nplp.clustering", "nplp.losses", "nplp.layers"),
    (
        "nplp.errors",
        "nplp.memory",
        "nplp.metric_names",
        "nplp.circumstances",
        "nplp.first_calls",
        "nplp.garbage_collection",
        "nplp.products",
    ),
    ("nplp_synthetic",),
)
"""From the roof to the ground. A package imports what is below its floor, and nothing else of the project."""

PURE = {
    "nplp/clustering": {
        *("torch", "numpy", "scipy", "sklearn", "faiss", "numba", "tqdm", "fast_hdbscan", "infomap")
    },
    "nplp/losses": {"torch", "numpy"},
    "nplp/layers": {"torch"},
    "nplp/weights": {"torch", "numpy", "safetensors", "filelock"},
    "nplp_synthetic": {"numpy", "PIL", "tqdm"},
}
"""Packages that work without the toolbox, and what of others they may import."""


def modules() -> list[Path]:
    return [path for path in SOURCES.rglob("*.py") if path != SOURCES / "nplp" / "__init__.py"]


def name_of(path: Path) -> str:
    """Return a module's dotted name."""
    parts = path.relative_to(SOURCES).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> set[str]:
    """Return the dotted names that a module imports, at any depth of its code."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            folder = path.relative_to(SOURCES).parts[: -node.level] if node.level else ()
            module = ".".join([*folder, *([node.module] if node.module else [])])
            # What is imported from the package itself may be one of its packages.
            names.update({f"nplp.{alias.name}" for alias in node.names} if module == "nplp" else {module})
    return names


def members(path: Path) -> set[str]:
    """Return the dotted names of what a module takes from others by ``from``."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    return {f"{node.module}.{alias.name}" for node in froms for alias in node.names}


def room_of(name: str) -> str | None:
    """Return the package of FLOORS that a module belongs to; None for other projects'."""
    top = name.split(".")[0]
    if top not in ("nplp", "nplp_commands", "nplp_experiments", "nplp_synthetic"):
        return None
    return ".".join(name.split(".")[:2]) if top == "nplp" and "." in name else top


def floor_of(room: str) -> int:
    return next(level for level, rooms in enumerate(FLOORS) if room in rooms)


# Nothing imports an entry of `python -m`; it calls a command, which lives above its package.
@pytest.mark.parametrize("path", [path for path in modules() if path.name != "__main__.py"], ids=name_of)
def test_imports_point_down(path):
    own = room_of(name_of(path))
    for name in imported(path):
        room = room_of(name)
        if room not in (None, "nplp", own):
            assert floor_of(room) > floor_of(own), f"{own} must not import {name}"


def test_every_package_has_its_floor():
    assert {room_of(name_of(path)) for path in modules()} <= {room for rooms in FLOORS for room in rooms}


@pytest.mark.parametrize("folder", PURE)
def test_pure_packages_need_no_toolbox(folder):
    paths = list((SOURCES / folder).rglob("*.py"))
    assert paths
    for path in paths:
        others = {name.split(".")[0] for name in imported(path) if room_of(name) is None}
        assert others <= PURE[folder] | STANDARD, path


def test_the_sweep_is_entered_by_its_interface_alone():
    sweep = SOURCES / "nplp" / "clustering" / "sweep"
    below = {name_of(path) for path in sweep.glob("*.py")} - {"nplp.clustering.sweep"}
    for path in modules():
        if not path.is_relative_to(sweep):
            names = imported(path) | members(path)
            assert not names & below, f"{path} must import from nplp.clustering.sweep itself: {names & below}"


def test_nothing_below_the_tools_imports_them():
    for path in modules():
        assert not any(name.split(".")[0] in {"tools", "tests"} for name in imported(path)), path


def test_no_star_imports():
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert all(alias.name != "*" for alias in node.names), path
