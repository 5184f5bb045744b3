"""Every block of Python on a page runs, here or in the test that is named, or has a reason why not."""

import json
import shutil

import numpy as np
import pytest

from site_pages import PAGES, ROOT, Block, blocks, text_of
from untrained import draw_crops

ELSEWHERE = {
    "docs/methods.md": "tests/methods/test_protocol.py",
    "docs/own_method.md": "tests/site/test_own_method.py",
    "docs/pseudo_labels.md": "tests/commands/test_cluster.py",
    "docs/use_a_model.md": "tests/search/test_use_a_model_page.py",
}
"""Pages whose Python another test runs."""
REASONS = {
    ("docs/cameras.md", "load_trained"): "needs a trained run: tests/engine/test_camera_statistics.py",
    ("docs/cameras.md", "onnxruntime"): "needs a bundle: tests/export/test_cameras.py",
    ("docs/weights.md", "recognise"): "needs a file of fastreid's zoo: tests/weights",
}
"""Blocks that no test runs as they stand, by page and a word of theirs."""
SMALLER = {"train_identities=50, test_identities=50": "train_identities=4, test_identities=4"}
"""What is changed in a block so that it takes no time."""
LANGUAGES = {"", "bash", "json", "mermaid", "python"}


def stand_ins():
    """Return arrays under the names that blocks use for those of their readers."""
    draw = np.random.default_rng(0)
    identities, cameras = draw.integers(8, size=200), draw.integers(2, size=200)
    features = draw.normal(size=(8, 16))[identities] + 0.3 * draw.normal(size=(200, 16))
    return {
        "features": (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32),
        "identities": identities,
        "camera_ids": cameras,
        "cameras": cameras,
        "expected_people": 8,
        "tracks": np.where(np.arange(200) < 40, 10 * cameras + identities % 5, -1),
        "times": np.arange(200.0),
    }


def reason_of(block: Block) -> str:
    """Return why a block does not run here; empty where it does."""
    found = [why for (page, word), why in REASONS.items() if page == block.page and word in block.text]
    return found[0] if found else ""


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks("python", page) and page not in ELSEWHERE], ids=str
)
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw_crops(tmp_path / "crops")
    names = stand_ins()
    for block in blocks("python", page):
        text = block.text
        for large, small in SMALLER.items():
            text = text.replace(large, small)
        if not reason_of(block):
            exec(compile(text, f"{page}, block {block.number}", "exec"), names)
        compile(text, page, "exec")


def test_every_reason_is_of_a_block():
    for page, word in REASONS:
        assert [block for block in blocks("python", page) if word in block.text], (page, word)


@pytest.mark.parametrize("page", ELSEWHERE, ids=str)
def test_the_other_test_reads_the_page(page):
    assert f'"{page.split("/")[-1]}"' in (ROOT / ELSEWHERE[page]).read_text(encoding="utf-8")
    assert blocks("python", page)


def test_every_block_says_what_it_is():
    text = "".join(text_of(page) for page in PAGES)
    assert text.count("\n```") % 2 == 0
    for page in PAGES:
        lines = [line[3:] for line in text_of(page).splitlines() if line.startswith("```")]
        assert set(lines) <= LANGUAGES, page


def test_what_is_shown_as_output_is_no_command():
    for block in blocks(""):
        starts = ("$ ", "nplp ", "python ", "make ", "pip ")
        assert not block.text.startswith(starts), f"{block.page}, block {block.number}: say that it is bash"


def test_json_is_json():
    assert blocks("json")
    for block in blocks("json"):
        json.loads(block.text)


def test_a_block_that_is_wrong_fails(tmp_path, monkeypatch):
    """The fixture of this file finds a name that is not there."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("results", "*.jpg"))
    (tmp_path / "docs" / "broken.md").write_text("```python\nprint(no_such_name)\n```\n")
    monkeypatch.setattr("site_pages.ROOT", tmp_path)
    with pytest.raises(NameError):
        test_the_python_of_a_page_runs("docs/broken.md", tmp_path, monkeypatch)
