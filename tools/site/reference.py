"""Hook of the site: a page of the API for each package of the library, written from its modules' ``__all__``.

First come the names that the package itself exports, then those of each of its modules. mkdocstrings reads
docstrings and signatures from the source, and imports nothing.
"""

import ast
import re
from pathlib import Path
from typing import Any

from docstrings import ROLE
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

LIBRARY = Path(__file__).parents[2] / "projects" / "NPLP"
TITLE = "API reference"
OPTIONS = "    options:\n      show_root_heading: true\n      heading_level: 2\n      members: "


def public_names(path: Path) -> list[str]:
    """Return the ``__all__`` of a module; empty where it has none."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(getattr(target, "id", "") == "__all__" for target in targets):
            return ast.literal_eval(node.value)
    return []


def imported_names(path: Path) -> set[str]:
    """Return the names that a module imports when it is loaded."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        name.asname or name.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }


def packages() -> list[Path]:
    """Return the folders of the library's packages, by name; those within others stand on their page."""
    return sorted(path.parent for path in (LIBRARY / "nplp").glob("*/__init__.py"))


def public_modules(package: Path) -> dict[str, list[str]]:
    """Return the public names of a package: its own, then those of each module that are not among them."""
    own = public_names(package / "__init__.py")
    exported = imported_names(package / "__init__.py") & set(own)
    found = {f"nplp.{package.name}": own}
    modules = [path for path in package.glob("*.py") if not path.stem.startswith("_")]
    for path in (*sorted(modules), *sorted(package.glob("*/__init__.py"))):
        parts = path.relative_to(LIBRARY).with_suffix("").parts
        module = ".".join(part for part in parts if part != "__init__")
        found[module] = [name for name in public_names(path) if name not in exported]
    return {module: names for module, names in found.items() if names}


def page(package: Path) -> str:
    """Return a package's page; a package that exports nothing is introduced by its docstring alone."""
    name, modules = f"nplp.{package.name}", public_modules(package)
    text = ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8"))) or ""
    parts = [f"# {name}\n", "" if name in modules else ROLE.sub(r"`\1`", text) + "\n"]
    parts += [f"::: {module}\n{OPTIONS}{names}\n" for module, names in modules.items()]
    return "\n".join(parts)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the entry of the navigation."""
    entries = [{f"nplp.{package.name}": f"reference/{package.name}.md"} for package in packages()]
    for entry in config.nav or []:
        if TITLE in entry:
            entry[TITLE] = [*entry[TITLE], *entries]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for package in packages():
        files.append(File.generated(config, f"reference/{package.name}.md", content=page(package)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Let names on the first page of the reference lead to where they are explained."""
    if page.file.src_uri != "reference/index.md":
        return markdown
    return re.sub(r"`(nplp\.[\w.]+)`", r"[`\1`][\1]", markdown)
