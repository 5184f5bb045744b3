"""Hook of the site: the notebooks of ``examples`` as pages, with the output that they hold."""

import base64
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

EXAMPLES = Path(__file__).parents[2] / "examples"
KINDS = {"image/png": "png", "image/jpeg": "jpg"}
"""Pictures that a cell may have drawn, and the endings of their files."""


def text_of(output: Any) -> str:
    """Return the text of an output that is no picture."""
    return output["text"] if "text" in output else output["data"].get("text/plain", "")


def page_of(path: Path) -> tuple[str, dict[str, bytes]]:
    """Return a notebook's page, and its pictures by the names of their files."""
    pictures: dict[str, bytes] = {}
    parts = []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"````python\n{cell.source}\n````")
        for output in cell.outputs:
            kind = next((kind for kind in KINDS if kind in output.get("data", {})), None)
            if kind:
                name = f"{path.stem}_{len(pictures)}.{KINDS[kind]}"
                pictures[name] = base64.b64decode(output["data"][kind])
                parts.append(f"![Output of the code above]({name})")
            else:
                parts.append(f"````text\n{text_of(output).rstrip()}\n````")
    parts.append(f"[The notebook itself]({path.name})")
    return "\n\n".join(parts) + "\n", pictures


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page, the pictures and the notebook itself for each notebook."""
    for path in sorted(EXAMPLES.glob("*.ipynb")):
        page, pictures = page_of(path)
        files.append(File.generated(config, f"examples/{path.stem}.md", content=page))
        files.append(File.generated(config, f"examples/{path.name}", content=path.read_bytes()))
        for name, content in pictures.items():
            files.append(File.generated(config, f"examples/{name}", content=content))
    return files
