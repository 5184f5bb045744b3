"""Hook of the site: pages that lie outside docs, and links that are valid in the repository and on the site.

Markdown in the repository links to files by their place in it: ``../CONTRIBUTING.md``,
``../projects/NPLP/nplp/config/keys.py``, ``configs/NPLP/ablations``. On the site

- the files of :data:`OUTSIDE` are pages of their own;
- a notebook has a page that shows it with its output;
- any other file that a page links to is a page that shows it, and a folder one that lists it;
- every such link leads to that page. A link to what is not there stays, and the strict build fails on it.
"""

import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from docstrings import lists_apart
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
OUTSIDE = {
    "README.md": "readme.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "MODEL_ZOO.md": "model_zoo.md",
    "LICENSE": "license.md",
    "datasets/README.md": "data_sets.md",
    "projects/NPLP/README.md": "parts.md",
    "projects/NPLP/nplp_experiments/README.md": "experiments.md",
    "projects/NPLP/nplp_synthetic/README.md": "synthetic.md",
}
"""Path in the repository: page of the site."""
LANGUAGES = {".py": "python", ".yml": "yaml", ".yaml": "yaml", ".json": "json", ".sh": "bash"}
"""Endings of the files that are shown, and how they are coloured."""
HIDDEN = "---\nsearch:\n  exclude: true\n---\n\n"
FENCE = re.compile(r"^(`{3,})[^\n]*\n.*?^\1\s*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(\]\()([^)\s]+)(\))")
MERMAID = re.compile(r"^```mermaid\n.*?^```$", re.MULTILINE | re.DOTALL)
PICTURE = "![The data's way through an iteration](docs/data_way.svg)"
"""In place of mermaid, whose program the site would have to fetch."""


def change_text(markdown: str, change: Callable[[str], str]) -> str:
    """Return a text with each link's target changed and lists set apart; blocks of code stay as they are."""
    parts, end = [], 0

    def outside_code(text: str) -> str:
        return lists_apart(LINK.sub(lambda link: link[1] + change(link[2]) + link[3], text))

    for block in FENCE.finditer(markdown):
        parts += [outside_code(markdown[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*parts, outside_code(markdown[end:])])


def target_of(link: str, place: str) -> tuple[str, str] | None:
    """Return path in the repository and anchor of a link in the file ``place``; None for other links."""
    path, _, anchor = link.partition("#")
    if not path or re.match(r"[a-z]+:", path):
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(place), path)), anchor


def page_of(path: str) -> str | None:
    """Return what stands for a path of the repository on the site; None where the path is not there."""
    if path in OUTSIDE:
        return OUTSIDE[path]
    place = ROOT / path
    if path.startswith("docs/") and place.is_file():
        return path.removeprefix("docs/")
    if path.startswith("examples/") and path.endswith(".ipynb") and place.is_file():
        return f"{path.removesuffix('.ipynb')}.md"
    return f"source/{path}.md" if place.exists() and not path.startswith("..") else None


def shown(path: str) -> str:
    """Return the page that shows a file or lists a folder of the repository, with links as in it."""
    place = ROOT / path
    if place.is_dir():
        files = sorted(each for each in place.iterdir() if each.is_file() and not each.name.startswith("."))
        lines = [f"- [{each.name}]({each.name})" for each in files]
        return f"{HIDDEN}# `{path}`\n\n" + "\n".join(lines) + "\n"
    language = LANGUAGES.get(place.suffix, "text")
    return f"{HIDDEN}# `{path}`\n\n`````{language}\n{place.read_text(encoding='utf-8')}\n`````\n"


def place_of(source: str) -> str:
    """Return the path in the repository from which a page's links are meant."""
    inverse = {page: path for path, page in OUTSIDE.items()}
    if source.startswith("examples/"):
        return source
    if source.startswith("source/"):
        path = source.removeprefix("source/").removesuffix(".md")
        return f"{path}/" if (ROOT / path).is_dir() else path
    return inverse.get(source, f"docs/{source}")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside docs, and one for each file and folder that a page links to."""
    for path, page in OUTSIDE.items():
        text = (ROOT / path).read_text(encoding="utf-8")
        text = text if path.endswith(".md") else f"# {path.title()}\n\n```text\n{text}\n```\n"
        files.append(File.generated(config, page, content=MERMAID.sub(PICTURE, text)))
    waiting = [file for file in files if file.is_documentation_page()]
    while waiting:
        file = waiting.pop()
        wanted: set[str] = set()

        def note(link: str, place: str = place_of(file.src_uri), wanted: set[str] = wanted) -> str:
            target = target_of(link, place)
            page = page_of(target[0]) if target else None
            if target and page and page.startswith("source/"):
                wanted.add(target[0])
            return link

        change_text(file.content_string, note)
        for path in sorted(wanted):
            page = f"source/{path}.md"
            if files.get_file_from_path(page) is None:
                added = File.generated(config, page, content=shown(path))
                files.append(added)
                waiting.append(added)
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Return a page's text with links to pages of the site in place of paths in the repository."""
    source = page.file.src_uri
    place = place_of(source)

    def change(link: str) -> str:
        target = target_of(link, place)
        found = page_of(target[0]) if target else None
        if not target or found is None:
            return link
        relative = posixpath.relpath(found, posixpath.dirname(source) or ".")
        return f"{relative}#{target[1]}" if target[1] else relative

    return change_text(markdown, change)
