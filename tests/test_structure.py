"""The line between the pure algorithms and the glue, read from the imports themselves."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "projects" / "NPLP" / "nplp"
PURE = ("clustering", "losses", "layers", "data/synthetic")
ALLOWED = {
    "clustering": {"torch", "numpy", "scipy", "sklearn", "faiss", "numba", "tqdm"},
    "losses": {"torch", "numpy"},
    "layers": {"torch"},
    "data/synthetic": {"numpy", "PIL", "tqdm"},
}
STANDARD = set(__import__("sys").stdlib_module_names)


def imported(path: Path) -> set[str]:
    """Return the dotted names that a module imports, at any depth of its code."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            package = path.relative_to(PACKAGE.parent).parts[: -node.level]
            names.add(".".join([*package, node.module or ""]))
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("folder", PURE)
def test_pure_folders_import_neither_the_toolbox_nor_the_glue(folder):
    modules = list((PACKAGE / folder).glob("*.py"))
    assert modules
    own = {f"nplp.{folder.replace('/', '.')}", "nplp.errors", "nplp.memory"}
    for path in modules:
        for name in imported(path):
            top = name.split(".")[0]
            if top == "nplp":
                assert any(name == prefix or name.startswith(f"{prefix}.") for prefix in own), (
                    f"{path}: {name}"
                )
            else:
                assert top in ALLOWED[folder] | STANDARD, f"{path}: {name}"


def test_strangers_weights_are_read_without_the_toolbox():
    for path in (PACKAGE / "weights").glob("*.py"):
        for name in imported(path):
            ours = name.startswith(("nplp.weights", "nplp.errors"))
            assert ours or name.split(".")[0] in {"torch", "numpy", "safetensors"} | STANDARD, (
                f"{path}: {name}"
            )


def test_nothing_below_the_tools_imports_them():
    for path in PACKAGE.rglob("*.py"):
        assert not any(name.split(".")[0] in {"tools", "tests"} for name in imported(path)), path


def test_data_and_modeling_do_not_import_the_engine():
    for folder in ("data", "modeling", "evaluation", "compat"):
        for path in (PACKAGE / folder).rglob("*.py"):
            assert not any(name.startswith("nplp.engine") for name in imported(path)), path


def test_no_star_imports():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert all(alias.name != "*" for alias in node.names), path
