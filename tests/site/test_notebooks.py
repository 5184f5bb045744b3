"""The notebooks run from the first cell to the last, and hold the output of such a run."""

import os
import re

import pytest

from site_pages import ROOT

nbformat = pytest.importorskip(
    "nbformat", reason="nbformat is not installed: pip install -r requirements-dev.txt"
)
nbclient = pytest.importorskip(
    "nbclient", reason="nbclient is not installed: pip install -r requirements-dev.txt"
)
pytest.importorskip("ipykernel", reason="ipykernel is not installed: pip install -r requirements-dev.txt")

EXAMPLES = ROOT / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def code_cells(notebook):
    """Return the cells with code."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text_of(notebook):
    """Return all text that the cells wrote."""
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return "".join(output.get("text", "") for output in outputs)


def run(name, monkeypatch):
    """Run a notebook in its folder, and return it with its new output."""
    # The kernel finds the library where this process does.
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(ROOT / "projects" / "NPLP"), os.environ.get("PYTHONPATH", "")])
    )
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    resources = {"metadata": {"path": str(EXAMPLES)}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    return notebook


def test_there_are_two():
    assert [path.name for path in NOTEBOOKS] == [
        "adapt_a_folder.ipynb",
        "pseudo_labels_of_any_embedding.ipynb",
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_the_output_of_one_run_and_no_path_of_a_machine(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert all(output.output_type != "error" for cell in cells for output in cell.outputs)
    assert re.findall(r"/(?:home|root|tmp|work|Users)/|\b[A-Z]:\\\\", path.read_text(encoding="utf-8")) == []
    assert path.stat().st_size < 300_000
    assert len(text_of(notebook)) > 100


def test_pseudo_labels_of_any_embedding(monkeypatch):
    name = "pseudo_labels_of_any_embedding.ipynb"
    shown = text_of(run(name, monkeypatch))
    clusters, precision, recall = re.search(
        r"(\d+) clusters.*\nprecision ([\d.]+), recall ([\d.]+)", shown
    ).groups()
    assert 10 <= int(clusters) <= 30
    assert float(precision) > 0.7
    assert float(recall) > 0.7
    held = text_of(nbformat.read(EXAMPLES / name, as_version=4))
    assert f"{clusters} clusters" in held, "run it again and save it with its output"


@pytest.mark.long
def test_adapt_a_folder(monkeypatch):
    shown = text_of(run("adapt_a_folder.ipynb", monkeypatch))
    before, after = (
        re.search(rf"^{when} +([\d.]+) +([\d.]+)$", shown, re.MULTILINE) for when in ("before", "after")
    )
    assert float(after[1]) > float(before[1]) + 5
    assert float(after[2]) > float(before[2]) + 5
    assert "Verdict:" in shown
